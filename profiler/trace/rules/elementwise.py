"""Rules of ops that work element by element, and of one that moves them, where shape inference or the kernel is odd."""

from typing import Any

import torch

from profiler.trace.known_values import aten
from profiler.trace.tracing import Tracing


def contiguous(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Made of a reshape of a permutation on CUDA (PixelShuffle.cpp): contiguous, where `meta` keeps the input's order."""
    y = trace.infer(func, args, kwargs)
    return torch.empty(y.shape, dtype=y.dtype, device=y.device)


def power_of_number(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The base becomes a tensor on the card, but for 1 (Pow.cpp); the result is contiguous."""
    y = contiguous(trace, func, args, kwargs)
    trace.track(y)
    if args[0] != 1:
        trace.give_back(trace.borrow(16 if isinstance(args[0], complex) else 8))
    return y


def infinite(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`abs` is a tensor of its own, which is compared; integers need none (isinf in TensorCompare.cpp)."""
    taken = trace.take_copy(args[0]) if args[0].is_floating_point() else []
    y = trace.infer(func, args, kwargs)
    trace.track(y)
    trace.give_back(taken)
    return y


def logarithm_of_sigmoid(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The buffer that the CPU's kernel leaves for a backward pass is empty (log_sigmoid_forward in Activation.cpp)."""
    y, _ = trace.infer(func, args, kwargs)
    return y, torch.empty(0, dtype=y.dtype, device=y.device)


def of_complex(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A complex result comes first, of which the real part is taken; the size of an angle is set after (UnaryOps.cpp)."""
    y = trace.infer(func, args, kwargs)
    first = trace.take_copy(args[0]) if args[0].is_complex() and func is aten.angle.default else []
    trace.track(y)
    last = trace.take_copy(args[0]) if args[0].is_complex() and func is aten.abs.default else []
    trace.give_back(first + last)
    return y


def columns(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result is born as large as the input, and keeps that storage where it is enough (Im2Col.cu, Col2Im.cu)."""
    x, y = args[0], trace.infer(func, args, kwargs)
    fits = y.numel() <= x.numel()
    if fits:
        y = torch.empty(x.numel(), dtype=x.dtype, device=x.device).as_strided(y.shape, y.stride())
        trace.track(y)
    born = [] if fits else trace.take_copy(x)
    ordered = trace.take_ordered(x)
    trace.track(y)
    trace.give_back(born)
    trace.give_back(ordered)
    return y


def where(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Values of another dtype than the result's are cast first, and numbers on the host copied (TensorCompare.cpp)."""
    y = trace.infer(func, args, kwargs)
    others = [x for x in args[1:] if x.dtype != y.dtype or x.device != y.device]
    taken = [number for x in others for number in trace.borrow(x.numel() * y.element_size())]
    trace.track(y)
    trace.give_back(taken)
    return y


def like(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The strides of a dense tensor are kept, also those that size 1 leaves open (empty_like in TensorFactories.cpp)."""
    x, y = args[0], trace.infer(func, args, kwargs)
    is_kept = kwargs.get("memory_format") in (None, torch.preserve_format) and y.device.type == trace.device_type
    if not is_kept or not aten.is_non_overlapping_and_dense.default(x):
        return y
    return torch.empty_strided(x.shape, x.stride(), dtype=y.dtype, device=y.device)


RULES = {
    **dict.fromkeys([aten.zeros_like.default, aten.ones_like.default, aten.full_like.default], like),
    aten.pixel_unshuffle.default: contiguous,
    aten.pow.Scalar: power_of_number,
    aten.where.self: where,
    aten.isinf.default: infinite,
    aten.log_sigmoid_forward.default: logarithm_of_sigmoid,
    **dict.fromkeys([aten.abs.default, aten.angle.default], of_complex),
    **dict.fromkeys([aten.im2col.default, aten.col2im.default], columns),
}
