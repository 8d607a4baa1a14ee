"""Runs a stage on tensors without data and writes down every allocation that the real kernels would make.

Tensors come from the observer; what kernels borrow besides them comes from the rules of `rules.py`.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from profiler.estimate.assume import Values, literals
from profiler.estimate.planner import Planner
from profiler.estimate.rules import CPU_RULES, CUDA_RULES, MIB, cublas_workspace_bytes
from profiler.observe import Observer
from profiler.stack import Stack
from profiler.workload import AttentionName


class Trace(Observer):
    """An observer of tensors without data for one target stack. `routes` counts the kernels that calls were priced as.

    They are on `device_type`: `meta`, or `cpu` where they are fake tensors that stand for real ones.
    """

    def __init__(self, stack: Stack, pinned: AttentionName | None = None, device_type: str = "meta") -> None:
        super().__init__(device_type)
        self.stack = stack
        self.pinned = pinned
        self.planner = Planner(stack)
        self.routes: Counter[str] = Counter()
        self.values = Values()
        self.rules = CUDA_RULES if stack.device == "cuda" else CPU_RULES
        self._gemm_workspace = stack.device != "cuda"
        self._lt_workspace = stack.device != "cuda"
        self._results: dict[Any, Any] = {}

    @contextmanager
    def during(self, phase: str, term: str, module: nn.Module | None = None) -> Iterator[None]:
        """As the observer's, with the content of literals."""
        with literals(), super().during(phase, term, module):
            yield

    def execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run one op by its rule, or infer its result."""
        rule = self.rules.get(func)
        result = rule(self, func, args, kwargs) if rule is not None else self.infer(func, args, kwargs)
        self.values.follow(func, args, kwargs, result)
        return result

    def infer(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The op's result without data. Shape inference is the trace's main cost, so results are remembered by shapes."""
        if func._schema.is_mutable or any(r.alias_info is not None for r in func._schema.returns):
            return func(*args, **kwargs)
        key = _signature((func, args, tuple(kwargs.items())))
        if key in self._results:
            return _fresh(self._results[key])
        result = _like_cuda(func, args, func(*args, **kwargs))
        template = _template(result)
        if key is not None and template is not None and not _is_view(result, args):
            self._results[key] = template
        return result

    def _died(self, key: int) -> None:
        super()._died(key)
        self.values.forget(key)

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


def _is_view(result: Any, value: Any) -> bool:
    """Whether `result` lies in a tensor of `value`, as that of `_unsafe_view` does though its schema does not say so."""
    if isinstance(value, torch.Tensor):
        outputs = result if isinstance(result, (tuple, list)) else (result,)
        return any(value.untyped_storage()._cdata == output.untyped_storage()._cdata for output in outputs)
    return isinstance(value, (tuple, list)) and any(_is_view(result, item) for item in value)
