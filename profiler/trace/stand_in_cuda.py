"""What torch answers of tensors and of CUDA while a trace of two devices runs: the trace hears of moves, streams, caches."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import torch

from profiler.trace.known_values import is_real

if TYPE_CHECKING:
    from profiler.trace.placed import PlacedTrace


class Stream:
    """A queue of the card, whose tensors come from a pool of their own. Kernels take no time: nobody waits."""

    made = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        Stream.made += 1
        self.number = Stream.made

    def synchronize(self) -> None:
        """Nothing is under way."""

    wait_stream = wait_event = record_event = query = lambda self, *_: None


DEFAULT = Stream()


def stand_in_cuda(trace: "PlacedTrace") -> Iterator[Any]:
    """The patches, each a context manager."""
    usual = torch.Tensor

    def numpy(tensor: torch.Tensor, **rest: Any) -> Any:
        if is_real(tensor) or trace.where(tensor).type != "cpu":
            return torch._C.TensorBase.numpy(tensor, **rest)
        dtype = torch.empty(0, dtype=tensor.dtype, device="cpu").numpy().dtype
        return np.broadcast_to(np.zeros((), dtype), tuple(tensor.shape))

    def data_ptr(tensor: torch.Tensor) -> int:
        """A number for the storage, by which tied weights are known; `meta` tensors have none."""
        return torch._C.TensorBase.data_ptr(tensor) or tensor.untyped_storage()._cdata

    tensor: dict[str, Any] = {
        "device": property(trace.where),
        "is_cuda": property(lambda x: trace.where(x).type == "cuda"),
        "is_meta": property(lambda x: trace.where(x).type == "meta"),
        "is_cpu": property(lambda x: trace.where(x).type == "cpu"),
        "numpy": numpy,
        "data_ptr": data_ptr,
    }
    for name, stand_in in tensor.items():
        yield patch.object(usual, name, stand_in, create=True)
    cuda: dict[str, Any] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "empty_cache": trace.empty_cache,
        "synchronize": lambda *_: None,
    }
    for name, stand_in in cuda.items():
        yield patch.object(torch.cuda, name, stand_in)
