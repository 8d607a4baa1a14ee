"""Which attention kernels may run, by the switches of torch and diffusers that hold at the time of a call.

Code turns kernels on and off as it runs (`sdpa_kernel`), so a trace asks torch, as torch's own dispatcher does. Kernels of
packages besides torch, which need not be installed here, have stand-ins in the places where diffusers calls them.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

from profiler.data.stack import Stack
from profiler.data.workload import AttentionName
from profiler.kernels.attention import PackageName, default_order

ENUM: dict[int, AttentionName] = {0: "math", 1: "flash", 2: "efficient", 3: "cudnn"}  # as torch.nn.attention.SDPBackend
UNTOUCHED = ([1, 2, 0, 3], [3, 1, 2, 0])  # torch's own orders: elsewhere, and where it prefers cuDNN
Enter = Callable[[PackageName], AbstractContextManager[None]]


def kernels_on(stack: Stack) -> tuple[AttentionName, ...]:
    """torch's own kernels that are switched on, in the order in which a card with `stack` tries them."""
    switches = torch.backends.cuda
    on: dict[AttentionName, bool] = {
        "flash": switches.flash_sdp_enabled(),
        "efficient": switches.mem_efficient_sdp_enabled(),
        "math": switches.math_sdp_enabled(),
        "cudnn": switches.cudnn_sdp_enabled(),
    }
    # Torch 2.6 names four kernels in five places, and the last reads as "math" again: the first place counts.
    order = [number for number in dict.fromkeys(torch._C._get_sdp_priority_order()) if number in ENUM]
    names = default_order(stack) if order in UNTOUCHED else tuple(ENUM[number] for number in order)
    return tuple(name for name in names if on[name])


def dispatcher() -> Any:
    """diffusers' module that calls attention backends, where something has imported it; else None."""
    return sys.modules.get("diffusers.models.attention_dispatch")


@contextmanager
def stand_ins(enter: Enter) -> Iterator[None]:
    """Let diffusers call packages that need not be there. Within `enter(package)` torch's attention stands for theirs."""
    with ExitStack() as patches:
        if dispatcher() is not None:
            xops = SimpleNamespace(
                memory_efficient_attention=_attend(enter, "xformers"), LowerTriangularMask=lambda: None
            )
            calls: dict[str, Any] = {
                "flash_attn_func": _attend(enter, "flash-attn"),
                "sageattn": _attend(enter, "sage"),
            }
            patches.enter_context(patch.multiple(dispatcher(), **calls, xops=xops))
            registry = dispatcher()._AttentionBackendRegistry  # whose checks ask for tensors on a CUDA device
            patches.enter_context(patch.object(registry, "_checks_enabled", False))
        yield


def _attend(enter: Enter, package: PackageName) -> Callable[..., torch.Tensor]:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """(B, S, heads, d) as packages take it; xformers has (B, S, groups, heads in one, d), keys alike in a group."""
        heads = q.shape[2:-1]
        if len(heads) == 2:
            q, k, v = q.flatten(2, 3), k[:, :, :, 0], v[:, :, :, 0]
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        with enter(package):
            y = F.scaled_dot_product_attention(q, k, v, enable_gqa=len(heads) == 2)
        y = y.transpose(1, 2)
        return y.view(*y.shape[:2], *heads, -1)

    return attend
