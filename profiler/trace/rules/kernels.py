"""What each operation allocates besides its result: one function an op, in the kernel's own order.

A rule returns the op's result without data, noted where the kernel makes it, and brackets it with borrowed buffers. Ops
without a rule allocate their result only. Buffers were read off the allocator of torch 2.9 to 2.13, op by op; the
source file that asks for them is named where it is not the op's own.
"""

from typing import Any

import torch
from torch._prims_common import suggest_memory_format

from profiler.errors import NoKernelError
from profiler.kernels import attention, convolution
from profiler.kernels.attention import Attention
from profiler.kernels.prices import AFTER, BEFORE, Price
from profiler.trace.observer import dtype_name
from profiler.trace.rules import composites, elementwise, normalization, reductions, sorting, systems, values
from profiler.trace.tracing import Rule, Tracing, check_dtypes

aten = torch.ops.aten
SMOOTHED = (aten._upsample_bilinear2d_aa.default, aten._upsample_bicubic2d_aa.default)
POOLS = (
    aten.avg_pool2d.default,
    aten.max_pool2d_with_indices.default,
    aten.max_pool3d_with_indices.default,
)
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def _convolution(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = args
    check_dtypes(func, x, weight, bias)
    y = trace.infer(func, args, kwargs)
    last = CHANNELS_LAST.get(x.dim())
    # ATen goes by the strides of size-1 dims too (suggest_memory_format), which `is_contiguous` ignores.
    is_last = last is not None and last in (suggest_memory_format(x), suggest_memory_format(weight))
    is_last = is_last and convolution.has_cudnn(dtype_name(x.dtype), trace.stack)  # the slow paths copy to contiguous
    layout = last if is_last and last is not None else torch.contiguous_format
    if is_last:
        y = torch.empty(y.shape, dtype=y.dtype, device=y.device, memory_format=layout)
    rank = x.dim() - 2
    conv = convolution.Convolution(
        x=tuple(x.shape),
        weight=tuple(weight.shape),
        y=tuple(y.shape),
        dtype=dtype_name(x.dtype),
        padding=_each(padding, rank),
        stride=_each(stride, rank),
        dilation=_each(dilation, rank),
        groups=groups,
        channels_last=is_last,
        transposed=transposed,
    )
    path = convolution.path(conv, trace.stack)
    by_columns = path == "columns"
    if by_columns and groups > 1:
        return _by_groups(trace, func, args)
    copies = [0 if t.is_contiguous(memory_format=layout) else t.numel() * t.element_size() for t in (x, weight)]
    taken = [number for copy in copies[: 1 + by_columns] for number in trace.borrow(copy)]
    trace.track(y)
    taken += [number for copy in copies[1 + by_columns :] for number in trace.borrow(copy)]
    trace.try_plans(conv)
    taken += trace.take(Price(conv, path))
    if by_columns:
        trace.keep_gemm_workspace(with_bias=False)  # columns times weights
    trace.give_back(taken)
    return y


def _by_groups(trace: Tracing, func: Any, args: tuple[Any, ...]) -> Any:
    """The slow paths know no groups: ATen runs one after another on slices of contiguous input and weights, then joins the
    outputs (Convolution.cpp, the cases `Slow2d` to `SlowTranspose3d`)."""
    x, weight, bias, *geometry, groups = args
    with trace:
        x, weight = x.contiguous(), weight.contiguous()
        biases = [None] * groups if bias is None else bias.chunk(groups)
        slices = zip(x.chunk(groups, 1), weight.chunk(groups), biases, strict=True)
        return torch.cat([func(*each, *geometry, 1) for each in slices], 1)


def _each(values: list[int], rank: int) -> tuple[int, ...]:
    """One value a spatial dimension: ATen takes a single one for all."""
    return tuple(values) * rank if len(values) == 1 else tuple(values)


def _gemm(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """cuBLAS reads rows or columns: a matrix in any other order, such as a slice, is copied first (Blas.cpp)."""
    check_dtypes(func, *args[:3])
    y = trace.infer(func, args, kwargs)
    trace.track(y)
    taken = [number for x in reversed(args[-2:]) if not _is_for_blas(x) for number in trace.take_copy(x)]
    trace.keep_gemm_workspace(with_bias=func is aten.addmm.default and args[0].dim() == 1)
    trace.give_back(taken)
    return y


def _is_for_blas(x: torch.Tensor) -> bool:
    """prepare_matrix_for_cublas, and prepare_batch_matrix_for_cublas for three dimensions."""
    (rows, columns), (down, across) = x.shape[-2:], x.stride()[-2:]
    if x.dim() == 2 and aten.is_non_overlapping_and_dense.default(x):
        return True
    lines_are_apart = (across == 1 and down >= max(1, columns)) or (down == 1 and across >= max(1, rows))
    return lines_are_apart or (x.dim() == 3 and x.is_contiguous() and down != 0 and across != 0)


def _attention(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    q, k, v, mask = (*args, None)[:4]
    mask = kwargs.get("attn_mask", mask)
    check_dtypes(func, q, k, v)
    call = Attention(
        q=tuple(q.shape),
        k=tuple(k.shape),
        v=tuple(v.shape),
        dtype=dtype_name(q.dtype),
        mask=None if mask is None else tuple(mask.shape),
        mask_is_bool=mask is not None and mask.dtype == torch.bool,
        gqa=kwargs.get("enable_gqa", False),
        packed=all(t.stride(-1) == 1 for t in (q, k, v, mask) if t is not None),
        causal=(*args, *[False] * 6)[5] or kwargs.get("is_causal", False),
    )
    allowed = trace.allowed()
    kernel = trace.prices.kernel(call, allowed)
    path = attention.path(kernel)
    trace.give_back(trace.take(Price(call, path, allowed)))
    if kernel == "math":
        return _math_attention(trace, func, args, kwargs)
    needs = [Price(call, path, allowed, part) for part in range(BEFORE + AFTER)]
    # A bool mask is converted by `where` of two numbers, each a tensor for that long.
    numbers = [number for _ in range(2 * call.mask_is_bool) for number in trace.borrow(q.element_size())]
    taken: list[list[int]] = []
    for part, need in enumerate(needs[:BEFORE]):
        taken.append(trace.take(need))
        if part == (kernel == "efficient"):
            trace.give_back(numbers)
        if part == attention.PADDED and kernel == "efficient" and call.mask_is_bool:  # what was converted is done with
            trace.give_back(taken[0])
            taken[0] = []
    if kernel == "flash" and q.shape[-1] % 8:  # on padded copies, and the output is cut (attention.cpp, pad_last_dim)
        q, v = (torch.nn.functional.pad(t, (0, -t.shape[-1] % 8)) for t in (q, v))
    y = attention_output(q, v, path)
    trace.track(y)
    taken += [trace.take(need) for need in needs[BEFORE:]]
    trace.give_back([number for part in taken for number in part])
    return y if y.shape[-1] == call.v[-1] else y[..., : call.v[-1]]


def attention_output(q: torch.Tensor, v: torch.Tensor, path: str) -> torch.Tensor:
    """The output without data, (B, heads, S_q, d_v), in the memory order that kernels of `path` give it."""
    batch, heads, length, depth = q.shape
    if path == "fused" and v.shape[-1] == depth:
        # They allocate like the query: a (B, S, heads, d) query gives an output in that order.
        if aten.is_non_overlapping_and_dense.default(q):  # `empty_like` on `meta` sets strides that size 1 leaves open
            return torch.empty_strided(q.shape, q.stride(), dtype=q.dtype, device=q.device)
        return torch.empty_like(q.transpose(1, 2)).transpose(1, 2)
    return torch.empty((batch, length, heads, v.shape[-1]), dtype=q.dtype, device=q.device).transpose(1, 2)


def _upsample_nearest(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The kernel reads and writes contiguous tensors; only in 2D, from four channels on, is there a channels-last one,
    and none that smooths."""
    x = args[0]
    y = trace.infer(func, args, kwargs)
    trace.track(y)
    if suggest_memory_format(x) == torch.channels_last and x.shape[1] >= 4 and func not in SMOOTHED:
        return y
    trace.give_back(trace.take_ordered(y) + trace.take_ordered(x))
    return y


def _copies_input(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The kernel makes its output, then copies an input that is not in order; pooling takes channels first or last."""
    x = args[0]
    y = trace.infer(func, args, kwargs)
    trace.track(y)
    layout = suggest_memory_format(x) if func in POOLS else torch.contiguous_format
    trace.give_back(trace.take_ordered(x, layout))
    return y


def _orders_input(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An input that is not in order is copied before the output is made (AdaptiveAveragePooling.cu)."""
    x = args[0]
    layout = suggest_memory_format(x) if x.dim() == 4 else torch.contiguous_format
    taken = trace.take_ordered(x, layout)
    y = trace.infer(func, args, kwargs)
    trace.track(y)
    trace.give_back(taken)
    return y


def _vectors(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """cuBLAS's products with a vector take its workspace as those of matrices do (CublasHandlePool.cpp)."""
    y = trace.infer(func, args, kwargs)
    trace.track(y)
    trace.keep_gemm_workspace(with_bias=False)
    return y


def _cpu_attention(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """On the CPU every kernel's scratch is measured, not modelled: the output is all that the trace knows."""
    q, _, v = args[:3]
    allowed = trace.allowed()
    if allowed and not {"flash", "math"} & set(allowed):
        raise NoKernelError(
            f"No viable backend: torch's attention on the CPU is flash or math, not {', '.join(allowed)}"
        )
    trace.routes["attention cpu"] += 1
    if q.dim() != 4:
        return _math_attention(trace, func, args, kwargs)
    batch, heads, length, _ = q.shape
    return torch.empty((batch, length, heads, v.shape[-1]), dtype=q.dtype, device=q.device).transpose(1, 2)


def _math_attention(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Op by op, of which one adds: the mask to the scores. ATen (attention.cpp) does it in place, except under a mode."""
    before = trace.rules
    trace.rules = before | {aten.add.Tensor: lambda _, add, args, kwargs: aten.add_.Tensor(*args, **kwargs)}
    try:
        return reductions.composed(trace, func, args, kwargs)
    finally:
        trace.rules = before


CUDA_RULES: dict[Any, Rule] = {
    **values.RULES,
    **elementwise.RULES,
    **reductions.RULES,
    **sorting.RULES,
    **systems.RULES,
    **composites.RULES,
    **normalization.RULES,
    aten.convolution.default: _convolution,
    **dict.fromkeys([aten.addmm.default, aten.mm.default, aten.bmm.default, aten.baddbmm.default], _gemm),
    **dict.fromkeys([aten.mv.default, aten.addmv.default, aten.dot.default, aten.vdot.default], _vectors),
    **dict.fromkeys([aten.upsample_nearest2d.default, aten.upsample_nearest3d.default], _upsample_nearest),
    **dict.fromkeys(
        [aten._upsample_nearest_exact2d.default, aten._upsample_nearest_exact3d.default], _upsample_nearest
    ),
    **dict.fromkeys([aten.upsample_nearest1d.default, *SMOOTHED], _upsample_nearest),
    **dict.fromkeys([*POOLS, aten.avg_pool3d.default], _copies_input),
    **dict.fromkeys([aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default], _orders_input),
    **dict.fromkeys([aten._softmax.default, aten._log_softmax.default], _copies_input),
    **dict.fromkeys(
        [aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default], _copies_input
    ),
    aten.scaled_dot_product_attention.default: _attention,
}
CPU_RULES: dict[Any, Rule] = {
    **values.RULES,
    aten.rms_norm.default: normalization.cpu_rms_norm,
    aten.scaled_dot_product_attention.default: _cpu_attention,
}
