"""Runs a stage on tensors without data and writes down every allocation that the real kernels would make.

Tensors come from the observer; what kernels borrow besides them comes from rules, one function an operation, registered
in `RULES`. A rule returns the op's result on `meta` and brackets it with borrowed buffers in the kernel's own order.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from profiler.estimate import attention, convolution
from profiler.observe import COMPOSITE, Observer
from profiler.stack import Stack
from profiler.workload import AttentionName

aten = torch.ops.aten
Rule = Callable[["Trace", Any, tuple[Any, ...], dict[str, Any]], Any]
MIB = 1 << 20


class Trace(Observer):
    """An observer of tensors without data for one target stack. `routes` counts the kernels that calls were priced as.

    They are on `device_type`: `meta`, or `cpu` where they are fake tensors that stand for real ones.
    """

    def __init__(self, stack: Stack, pinned: AttentionName | None = None, device_type: str = "meta") -> None:
        super().__init__(device_type)
        self.stack = stack
        self.pinned = pinned
        self.routes: Counter[str] = Counter()
        self.rules = CUDA_RULES if stack.device == "cuda" else CPU_RULES
        self._gemm_workspace = stack.device != "cuda"
        self._lt_workspace = stack.device != "cuda"
        self._results: dict[Any, Any] = {}

    def execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run one op by its rule, or infer its result."""
        rule = self.rules.get(func)
        return rule(self, func, args, kwargs) if rule is not None else self.infer(func, args, kwargs)

    def infer(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The op's result without data. Shape inference is the trace's main cost, so results are remembered by shapes."""
        if func._schema.is_mutable or any(r.alias_info is not None for r in func._schema.returns):
            return func(*args, **kwargs)
        key = _signature((func, args, tuple(kwargs.items())))
        if key in self._results:
            return _fresh(self._results[key])
        result = _like_cuda(func, args, func(*args, **kwargs))
        template = _template(result)
        if key is not None and template is not None:
            self._results[key] = template
        return result

    def borrow(self, size: int) -> list[int]:
        """Take `size` bytes until `give_back`; nothing for 0."""
        return [self.allocate(size, (size,), "byte", "workspace")] if size else []

    def give_back(self, taken: list[int]) -> None:
        """Free borrowed buffers, last first, as scopes end."""
        for number in reversed(taken):
            self.release(number)

    def keep_gemm_workspace(self, with_bias: bool) -> None:
        """cuBLAS takes its workspace in the first GEMM, after the output, and keeps it (CUDA CublasHandlePool.cpp)."""
        if not self._gemm_workspace:
            self._gemm_workspace = True
            self.borrow(cublas_workspace_bytes(self.stack))
        if with_bias and not self._lt_workspace:
            # cuBLASLt has had the cuBLAS block for its own since torch 2.12; before it takes 1 MiB more.
            self._lt_workspace = True
            self.borrow(MIB if self.stack.torch_release < (2, 12, 0) else 0)


def cublas_workspace_bytes(stack: Stack) -> int:
    """cuBLAS's default workspace: 32 MiB from Hopper on, `:4096:2:16:8` (8,519,680 bytes) before."""
    major, _ = stack.capability or (0, 0)
    return 32 * MIB if major in (9, 10) else 8_519_680


def _convolution(trace: Trace, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, weight, _, _, _, _, transposed, _, groups = args
    y = trace.infer(func, args, kwargs)
    last = convolution.CHANNELS_LAST.get(x.dim())
    is_last = last is not None and (_suggests(x, last) or _suggests(weight, last))
    layout = last if is_last and last is not None else torch.contiguous_format
    if is_last:
        y = torch.empty(y.shape, dtype=y.dtype, device=y.device, memory_format=layout)
    conv = convolution.Convolution(
        x=tuple(x.shape),
        weight=tuple(weight.shape),
        y=tuple(y.shape),
        dtype=x.dtype,
        groups=groups,
        channels_last=is_last,
        transposed=transposed,
    )
    trace.routes[f"convolution {convolution.route(conv, trace.stack)}"] += 1
    taken = [] if x.is_contiguous(memory_format=layout) else trace.borrow(x.numel() * x.element_size())
    trace.track(y)
    if not weight.is_contiguous(memory_format=layout):
        taken += trace.borrow(weight.numel() * weight.element_size())
    taken += trace.borrow(convolution.workspace_bytes(conv, trace.stack))
    trace.give_back(taken)
    return y


def _gemm(trace: Trace, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    y = trace.infer(func, args, kwargs)
    trace.track(y)
    trace.keep_gemm_workspace(with_bias=func is aten.addmm.default and args[0].dim() == 1)
    return y


def _group_norm(trace: Trace, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Mean and reciprocal deviation per group are outputs; two fp32 rows of N x C scale and shift are scratch."""
    x, _, _, batch, channels, _, groups, _ = args
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    statistics = [torch.empty((batch, groups), dtype=x.dtype, device=x.device) for _ in range(2)]
    trace.track([y, *statistics])
    trace.give_back(trace.borrow(batch * channels * 4) + trace.borrow(batch * channels * 4))
    return (y, *statistics)


def _layer_norm(trace: Trace, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The kernel wants contiguous rows and keeps fp32 mean and reciprocal deviation of each."""
    x, normalized = args[0], args[1]
    taken = [] if x.is_contiguous() else trace.borrow(x.numel() * x.element_size())
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    rows = (*x.shape[: x.dim() - len(normalized)], *[1] * len(normalized))
    statistics = [torch.empty(rows, dtype=torch.float32, device=x.device) for _ in range(2)]
    trace.track([y, *statistics])
    trace.give_back(taken)
    return (y, *statistics)


def _rms_norm(trace: Trace, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Fused on CUDA since torch 2.9 where weight and input share a dtype; else the composite, op by op."""
    x, normalized, weight = (*args, None)[:3]
    if trace.stack.torch_release < (2, 9, 0) or (weight is not None and weight.dtype != x.dtype):
        return _take_apart(trace, func, args, kwargs)
    rows = x.numel() // max(1, torch.Size(normalized).numel())
    taken = [] if x.is_contiguous() else trace.borrow(x.numel() * x.element_size())
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    trace.track(y)
    trace.give_back(taken + trace.borrow(rows * 4))
    return y


def _attention(trace: Trace, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    q, k, v, mask, _, causal = (*args, None, 0.0, False)[:6] if len(args) < 6 else args[:6]
    call = attention.Attention(
        q=q, k=k, v=v, mask=kwargs.get("attn_mask", mask), causal=causal, gqa=kwargs.get("enable_gqa", False)
    )
    kernel = attention.choose(call, trace.stack, trace.pinned)
    trace.routes[f"attention {kernel}"] += 1
    if kernel == "math":
        return _take_apart(trace, func, args, kwargs)
    needs = attention.buffers(call, kernel)
    taken = [number for size in needs.before for number in trace.borrow(size)]
    y = attention.allocate_output(call, kernel)
    trace.track(y)
    taken += [number for size in needs.after for number in trace.borrow(size)]
    trace.give_back(taken)
    return y


def _cpu_attention(trace: Trace, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """On the CPU every kernel's scratch is measured, not modelled: the output is all that the trace knows."""
    q, _, v = args[:3]
    trace.routes["attention cpu"] += 1
    batch, heads, length, _ = q.shape
    return torch.empty((batch, length, heads, v.shape[-1]), dtype=q.dtype, device=q.device).transpose(1, 2)


def _cpu_rms_norm(trace: Trace, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, _, weight = (*args, None)[:3]
    dtype = x.dtype if weight is None else torch.promote_types(x.dtype, weight.dtype)
    return torch.empty(x.shape, dtype=dtype, device=x.device)


def _take_apart(trace: Trace, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with trace:
        return func._op_dk(COMPOSITE, *args, **kwargs)


CUDA_RULES: dict[Any, Rule] = {
    aten.convolution.default: _convolution,
    aten.addmm.default: _gemm,
    aten.mm.default: _gemm,
    aten.bmm.default: _gemm,
    aten.baddbmm.default: _gemm,
    aten.native_group_norm.default: _group_norm,
    aten.native_layer_norm.default: _layer_norm,
    aten.rms_norm.default: _rms_norm,
    aten.scaled_dot_product_attention.default: _attention,
}
CPU_RULES: dict[Any, Rule] = {
    aten.rms_norm.default: _cpu_rms_norm,
    aten.scaled_dot_product_attention.default: _cpu_attention,
}


def _suggests(tensor: torch.Tensor, layout: torch.memory_format) -> bool:
    """`Tensor::suggest_memory_format`: strides are channels-last and not also contiguous."""
    return tensor.is_contiguous(memory_format=layout) and not tensor.is_contiguous()


def _like_cuda(func: Any, args: Any, result: Any) -> Any:
    """Undo a difference of shape inference: elementwise ops normalise strides of size-1 dims there, CUDA keeps the input's.

    The next convolution decides its memory format by those strides.
    """
    if torch.Tag.pointwise not in func.tags or not isinstance(result, torch.Tensor):
        return result
    x = args[0]
    if not isinstance(x, torch.Tensor) or x.shape != result.shape or x.stride() == result.stride():
        return result
    if all(n == 1 or a == b for n, a, b in zip(result.shape, result.stride(), x.stride(), strict=True)):
        return torch.empty_strided(x.shape, x.stride(), dtype=result.dtype, device=x.device)
    return result


def _signature(value: Any) -> Any:
    """A hashable key of an argument tree: tensors by shape, strides, dtype and device. None if it has none."""
    if isinstance(value, torch.Tensor):
        return (value.shape, value.stride(), value.dtype, value.device.type)
    if isinstance(value, (tuple, list)):
        return tuple(_signature(item) for item in value)
    return (type(value), value)


def _template(result: Any) -> Any:
    """What is needed to make such a result again; None for a result that is not all tensors."""
    if isinstance(result, torch.Tensor):
        return (result.shape, result.stride(), result.dtype, result.device)
    if isinstance(result, (tuple, list)) and result:
        items = [_template(item) for item in result]
        return items if all(item is not None for item in items) else None
    return None


def _fresh(template: Any) -> Any:
    if isinstance(template, list):
        return [_fresh(item) for item in template]
    shape, stride, dtype, device = template
    return torch.empty_strided(shape, stride, dtype=dtype, device=device)
