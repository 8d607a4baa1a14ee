"""What torch answers of tensors and of CUDA while a trace of two devices runs: it hears of streams, pinning, caches."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
import torch

from profiler.trace.known_values import is_real

Base: Any = torch._C.TensorBase
STREAMS = 32  # that torch makes of a device; the next one asked for is the first again (c10/cuda/CUDAStream.cpp)


class Mover(Protocol):
    """Who knows where tensors lie, and hears what is done to them. `queue`: the current stream."""

    queue: int

    def where(self, tensor: torch.Tensor) -> torch.device: ...
    def pinned(self, tensor: torch.Tensor) -> torch.Tensor: ...
    def is_pinned(self, tensor: torch.Tensor) -> bool: ...
    def record_stream(self, tensor: torch.Tensor, queue: int) -> None: ...
    def empty_cache(self) -> None: ...


class Zeros(np.ndarray[Any, Any]):
    """An array of which one element is in memory, and so is what comes of it: a clip of gigabytes is not written.

    It may be stacked into one of the same kind, scaled, rounded and cast, as pipelines do on the way to pictures.
    """

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is np.stack and not kwargs and len(args) == 1:
            return np.broadcast_to(self.flat[0], (len(args[0]), *self.shape)).view(Zeros)
        return super().__array_function__(func, types, args, kwargs)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and not kwargs and all(x is self or np.isscalar(x) for x in inputs):
            return self._alike(lambda one: ufunc(*(one if x is self else x for x in inputs)))
        plain = [x.view(np.ndarray) if isinstance(x, Zeros) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **kwargs)

    def round(self, *args: Any, **kwargs: Any) -> Any:
        return self._alike(lambda one: one.round(*args, **kwargs))

    def astype(self, *args: Any, **kwargs: Any) -> Any:
        return self._alike(lambda one: one.astype(*args, **kwargs))

    def _alike(self, function: Any) -> Any:
        """`function` of the one element, as many times; of all of them where this was written out."""
        plain = self.view(np.ndarray)
        if any(self.strides) or not self.size:
            return function(plain)
        return np.broadcast_to(function(plain[(slice(1),) * self.ndim].copy()).flat[0], self.shape).view(Zeros)


class Stream:
    """A queue of the card, with a pool of memory of its own. Nothing takes time here, so nobody waits for it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def _nothing(self, *_: Any, **__: Any) -> None:
        """Waiting, recording, synchronising."""

    synchronize = wait_stream = wait_event = record_event = record = wait = _nothing
    query = staticmethod(lambda: True)
    elapsed_time = staticmethod(lambda _: 0.0)


class _AnyGenerator(type(torch.Generator)):  # type: ignore[misc]
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, torch._C.Generator)


class Generator(torch.Generator, metaclass=_AnyGenerator):
    """Of a card: torch without CUDA has none, and samplers of a stochastic equation make theirs (torchsde)."""

    device = property(lambda self: self.at)

    def __new__(cls, device: Any = "cpu") -> Any:
        made: Any = super().__new__(cls)
        made.at = torch.device(device)
        return made


@contextmanager
def stand_in_cuda(trace: Mover) -> Iterator[None]:
    """Let code outside of operations find a card, on which everything goes through `trace`."""
    numbers = count()

    @contextmanager
    def on(stream: Stream | None) -> Iterator[None]:
        before = trace.queue
        trace.queue = before if stream is None else stream.number
        try:
            yield
        finally:
            trace.queue = before

    cuda: dict[str, Any] = {
        "is_available": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,  # since Ampere; before it torch finds bf16 emulated
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "empty_cache": trace.empty_cache,
        **dict.fromkeys(("_lazy_init", "ipc_collect", "reset_peak_memory_stats", "synchronize"), lambda *_: None),
        "Stream": lambda *_, **__: Stream(1 + next(numbers) % STREAMS),
        "Event": lambda *_, **__: Stream(0),
        "stream": on,
        "current_stream": lambda *_: Stream(trace.queue),
        "default_stream": lambda *_: Stream(0),
    }
    with ExitStack() as patches:
        for place, names in ((torch, {"Generator": Generator}), (torch.cuda, cuda), (torch.Tensor, _of_tensors(trace))):
            for name, stand_in in names.items():
                patches.enter_context(patch.object(place, name, stand_in))
        yield


def _of_tensors(trace: Mover) -> dict[str, Any]:
    def numpy(x: torch.Tensor, **rest: Any) -> Any:
        """Zeros that take no memory, where a tensor on the host has no data."""
        if is_real(x) or trace.where(x).type != "cpu":
            return Base.numpy(x, **rest)
        zero = np.zeros_like(torch.empty(1, dtype=x.dtype).numpy()[0])  # what `empty` holds may be no number
        return np.broadcast_to(zero, tuple(x.shape)).view(Zeros)

    def data_ptr(x: torch.Tensor) -> int:
        """A number for the storage, by which tied weights are known; torch has none without data."""
        return int(Base.data_ptr(x)) or x.untyped_storage()._cdata

    copied: Any = torch.Tensor.__deepcopy__
    written: Any = torch.Tensor.__repr__

    def to(x: torch.Tensor, *args: Any, **rest: Any) -> Any:
        """Where no device is named, torch itself takes that of `x`, or of the tensor given: to it they are on `meta`."""
        place: Any
        place, *more = args or (rest.pop("other", rest.pop("device", None)),)
        if isinstance(place, torch.dtype):
            return Base.to(x, *args, **rest)
        if isinstance(place, torch.Tensor):
            place, more = trace.where(place), [place.dtype, *more]
        place = torch.device("cuda", place) if type(place) is int else place
        return Base.to(x, trace.where(x) if place is None else place, *more, **rest)

    def new_tensor(x: torch.Tensor, data: Any, dtype: Any = None, device: Any = None, **rest: Any) -> torch.Tensor:
        return torch.tensor(data, dtype=dtype or x.dtype, device=device or trace.where(x), **rest)

    def deepcopy(x: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
        """Torch copies the storage, and makes an empty tensor that holds the copy then (`Tensor.__deepcopy__`)."""
        copy: torch.Tensor = copied(x, memo) if is_real(x) else memo.setdefault(id(x), x.clone())
        if not is_real(x):
            x.new_empty([])
        return copy

    def shown(x: torch.Tensor, **how: Any) -> str:
        """As a tensor on `meta` is shown: a pipeline's message may name one that was given."""
        unknown = f"tensor(..., device='{trace.where(x)}', size={tuple(x.shape)}, dtype={x.dtype})"
        return str(written(x, **how)) if is_real(x) else unknown

    return {
        "__deepcopy__": deepcopy,
        "__repr__": shown,
        "device": property(trace.where),
        "is_cuda": property(lambda x: trace.where(x).type == "cuda"),
        "is_meta": property(lambda x: trace.where(x).type == "meta"),
        "is_cpu": property(lambda x: trace.where(x).type == "cpu"),
        "numpy": numpy,
        "data_ptr": data_ptr,
        "new_tensor": new_tensor,
        "pin_memory": lambda x, *_: x if is_real(x) or trace.is_pinned(x) else trace.pinned(x),
        "to": to,
        "cuda": lambda x, *_, **__: to(x, "cuda"),
        "is_pinned": lambda x, *_: trace.is_pinned(x),
        "record_stream": lambda x, stream: trace.record_stream(x, stream.number),
    }
