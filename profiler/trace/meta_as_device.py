"""What torch does otherwise on `meta` than on a device, made the same for the time of a trace."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch._higher_order_ops.flex_attention import math_attention
from torch.nn.attention import flex_attention as flex


@contextlib.contextmanager
def as_on_a_device() -> Iterator[None]:
    """Literals keep their data, flex attention runs as it does uncompiled."""
    with (
        patch.object(torch, "tensor", _with_data(torch.tensor)),
        patch.object(torch, "as_tensor", _with_data(torch.as_tensor)),
        patch.object(flex, "flex_attention", _flex_attention),
    ):
        yield


def _with_data(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`torch.tensor(data, device=...)` makes its data on the host and copies them; for `meta` torch leaves them out."""

    def on_host(data: Any, *, device: Any = None, **rest: Any) -> torch.Tensor:
        return (
            make(data, device=device, **rest)
            if isinstance(data, torch.Tensor)
            else make(data, **rest).to(device=device)
        )

    return on_host


def _flex_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, score_mod: Any = None, block_mask: Any = None,
    scale: float | None = None, return_lse: bool = False, **rest: Any,
) -> Any:  # fmt: skip
    """Uncompiled, torch materialises every score in fp32 (sdpa_dense)."""
    mask = block_mask if block_mask is not None else flex._create_empty_block_mask(query, key)
    change = score_mod if score_mod is not None else flex._identity
    out, logsumexp, *_ = math_attention(
        query, key, value, change, mask.as_tuple(), scale or 1 / math.sqrt(query.shape[-1]), {}
    )
    return (out, logsumexp) if return_lse else out
