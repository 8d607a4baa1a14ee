"""Ops that are made of others where a card runs them: ATen's own code asks where the tensor is, and `meta` is no card.

Each function runs what that code runs, op by op, so that temporary results live as long as they do there.
"""

from typing import Any

import torch

from profiler.trace.known_values import aten
from profiler.trace.rules.reductions import composed
from profiler.trace.tracing import Tracing


def dropout(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """In training one kernel makes the mask, a byte an element, and the result (is_fused_kernel_acceptable, Dropout.cpp)."""
    x, p, train = args
    if not train or not 0 < p < 1 or not x.numel():
        return composed(trace, func, args, kwargs)
    taken = trace.borrow(x.numel())
    y = torch.empty_like(x)
    trace.track(y)
    trace.give_back(taken)
    return y


def softmax(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Of fp16 a card's kernel makes fp32 at once; of other dtypes a copy comes first (softmax in SoftMax.cpp)."""
    x, _, dtype = (*args, kwargs.get("dtype"))[:3]
    if x.dtype != torch.float16 or dtype != torch.float32:
        return composed(trace, func, args, kwargs)
    y = torch.empty_like(x, dtype=dtype, memory_format=torch.contiguous_format)
    trace.track(y)
    trace.give_back(trace.take_ordered(x))
    return y


def one_hot(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Ones scattered into zeros; elsewhere the classes are compared (Onehot.cpp)."""
    x, classes = (*args, kwargs.get("num_classes", -1))[:2]
    if classes == -1 or not x.numel():
        return composed(trace, func, args, kwargs)
    with trace:
        return torch.zeros((*x.shape, classes), dtype=x.dtype, device=x.device).scatter_(-1, x.unsqueeze(-1), 1)


def roll(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One dimension after another, each result alive until the last is made (roll_common in TensorTransformations.h)."""
    x, shifts, dims = (*args, [])[:3]
    with trace:
        if not dims:
            return func(x.contiguous().view(-1), shifts, [0]).view(x.shape)
        if len(dims) > 1:
            first = func(x, shifts[:1], dims[:1])
            return func(first, shifts[1:], dims[1:])
    taken = trace.take_ordered(x)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    trace.track(y)
    trace.give_back(taken)
    return y


def median(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Of all elements: they are sorted (median_impl in cuda/Sorting.cpp)."""
    x = args[0]
    if not x.numel():
        return trace.infer(func, args, kwargs)
    with trace:
        flat = x.flatten()
        ordered = flat.sort()[0]
        del flat
        return torch.where(ordered[-1].isnan(), ordered[-1], ordered[(x.numel() - 1) // 2])


def is_in(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Few are compared with each, many are sorted, which is not followed (isin in TensorCompare.cpp)."""
    x, among, *_ = args
    found = trace.infer(func, args, kwargs)
    if among.numel() < int(10 * x.numel() ** 0.145):
        trace.track(found)
        with trace:
            same = x.unsqueeze(-1).eq(among.view(*[1] * x.dim(), -1))
            found.copy_(same.any(-1))
    return found


RULES = {
    aten.dropout.default: dropout,
    **dict.fromkeys([aten.softmax.int, aten.log_softmax.int], softmax),
    aten.one_hot.default: one_hot,
    aten.roll.default: roll,
    aten.median.default: median,
    aten.isin.Tensor_Tensor: is_in,
    **dict.fromkeys([aten.dist.default, aten._euclidean_dist.default, aten.affine_grid_generator.default], composed),
    **dict.fromkeys([aten.bilinear.default, aten._trilinear.default], composed),
    aten.binary_cross_entropy_with_logits.default: composed,
}
