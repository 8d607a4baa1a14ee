"""Rules of normalization: what its kernels keep of each group, row or channel besides the result."""

from typing import Any

import torch
from torch._prims_common import suggest_memory_format

from profiler.trace.rules.reductions import composed
from profiler.trace.tracing import Rule, Tracing, check_dtypes

aten = torch.ops.aten
CUDNN_TAKES = [(dtype, torch.float32) for dtype in (torch.float32, torch.float16)]  # inputs and weights


def group_norm(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Mean and reciprocal deviation per group are outputs; two fp32 rows of N x C scale and shift are scratch.

    Images of one pixel, and calls without weight and bias, go without the two rows (GroupNormKernelImplInternal). In 16
    bit the kernel keeps the statistics in fp32 too since torch 2.13: seen there, absent in 2.12.0 (dry runs of both).
    An input in another order is cloned first: up to torch 2.13 by `at::group_norm`, from 2.14 on here (group_norm.cpp).
    """
    x, weight, bias, batch, channels, pixels, groups, _ = args
    check_dtypes(func, x, weight, bias)
    if not x.is_contiguous():
        with trace:
            x = x.contiguous()
        trace.ops.append(trace.ops[-2])
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    statistics = [torch.empty((batch, groups), dtype=x.dtype, device=x.device) for _ in range(2)]
    trace.track([y, *statistics])
    fp32_statistics = x.element_size() == 2 and trace.stack.torch_release >= (2, 13, 0)
    rows = [batch * groups] * 2 if fp32_statistics else []
    rows += [batch * channels] * 2 if pixels > 1 and (weight is not None or bias is not None) else []
    trace.give_back([number for row in rows for number in trace.borrow(row * 4)])
    return (y, *statistics)


def layer_norm(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The kernel wants contiguous rows and keeps fp32 mean and reciprocal deviation of each."""
    x, normalized, weight, bias, _ = args
    check_dtypes(func, x, weight, bias)
    taken = trace.take_ordered(x)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    rows = (*x.shape[: x.dim() - len(normalized)], *[1] * len(normalized))
    statistics = [torch.empty(rows, dtype=torch.float32, device=x.device) for _ in range(2)]
    trace.track([y, *statistics])
    trace.give_back(taken)
    return (y, *statistics)


def rms_norm(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Fused on CUDA since torch 2.9 where weight and input share a dtype; else the composite, op by op."""
    x, normalized, weight = (*args, None)[:3]
    if trace.stack.torch_release < (2, 9, 0) or (weight is not None and weight.dtype != x.dtype):
        return composed(trace, func, args, kwargs)
    rows = x.numel() // max(1, torch.Size(normalized).numel())
    taken = trace.take_ordered(x)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    trace.track(y)
    trace.give_back(taken + trace.borrow(rows * 4))
    return y


def batch_norm(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """By given statistics cuDNN saves none, where ATen's own kernel does (_select_batch_norm_backend, Normalization.cpp)."""
    x, weight, bias, mean, variance, training, _, eps, with_cudnn = args
    is_given = all(t is not None for t in (weight, bias, mean, variance)) and not training
    dtypes = x.dtype, None if weight is None else weight.dtype
    is_taken = dtypes in CUDNN_TAKES and x.dim() > 2 and len(x) <= 65535 and eps >= 1e-5
    if not (is_given and is_taken and with_cudnn):
        return composed(trace, func, args, kwargs)
    layout = suggest_memory_format(x)
    taken = trace.take_ordered(x, layout)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=layout)
    trace.track(y)
    trace.give_back(taken)
    return y


def own_batch_norm(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """ATen's own kernel keeps mean and deviation in fp32, given ones too; `meta` has none of these (Normalization.cu)."""
    y, *_ = trace.infer(func, args, kwargs)
    return (y, *(torch.empty(y.shape[1], dtype=torch.float32, device=y.device) for _ in range(2)))


def weight_norm(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The norms of 16-bit weights are fp32 (WeightNorm.cu); shape inference knows that of bfloat16 alone."""
    weight, norms = trace.infer(func, args, kwargs)
    wide = torch.promote_types(norms.dtype, torch.float32)
    return weight, torch.empty(norms.shape, dtype=wide, device=norms.device)


def cpu_rms_norm(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, _, weight = (*args, None)[:3]
    dtype = x.dtype if weight is None else torch.promote_types(x.dtype, weight.dtype)
    return torch.empty(x.shape, dtype=dtype, device=x.device)


RULES: dict[Any, Rule] = {
    aten.native_group_norm.default: group_norm,
    aten.native_layer_norm.default: layer_norm,
    aten.rms_norm.default: rms_norm,
    aten.batch_norm.default: batch_norm,
    aten._weight_norm_interface.default: weight_norm,
    aten.native_batch_norm.default: own_batch_norm,
}
