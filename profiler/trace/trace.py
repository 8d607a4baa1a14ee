"""Runs a call on tensors without data and writes down every allocation that the real kernels would make.

Tensors come from the observer; what kernels borrow besides them comes from the rules in `rules/`.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from profiler.data.stack import Stack
from profiler.kernels.attention import KernelName, PackageName
from profiler.kernels.gemm import cublas_workspace_bytes, lt_workspace_bytes, runs_on_lt
from profiler.kernels.prices import Price, Prices
from profiler.models.build import TORCH_DTYPES
from profiler.stages.phases import Runnable
from profiler.trace.attention import dispatcher, kernels_on, stand_ins
from profiler.trace.autocast import Autocast
from profiler.trace.known_values import Values, is_real
from profiler.trace.meta_as_device import as_on_a_device
from profiler.trace.observer import Observer
from profiler.trace.repeated_calls import Repeats
from profiler.trace.rules.kernels import CPU_RULES, CUDA_RULES


class Trace(Observer):
    """An observer of tensors without data for one target stack. `routes` counts the kernels that calls were priced as.

    The tensors are on `device_type`: `meta`, or `cpu` where they are fake tensors that stand for real ones. With `repeats`
    off every call is traced, also one that repeats another: slower, with the same answer. With `slots` on, a buffer whose
    size is 0 here but not at every size, such as the workspace of a convolution, is noted too: a recording needs the same
    events at each of its sizes.
    """

    def __init__(self, stack: Stack, device_type: str = "meta", *, repeats: bool = True, slots: bool = False) -> None:
        super().__init__(device_type)
        self.stack = stack
        self.slots = slots
        self.package: PackageName | None = None  # whose attention is being called, besides torch's own
        self.autocast: Autocast | None = None
        self.benchmark = False
        self.routes: Counter[str] = Counter()
        self.prices = Prices(stack, self.routes)
        self.cache_emptied_at: set[int] = set()  # the events before which cached segments are given back
        self.values = Values()
        self.rules = CUDA_RULES if stack.device == "cuda" else CPU_RULES
        self._gemm_workspace = stack.device != "cuda"
        self._lt_workspace = stack.device != "cuda"
        self._results: dict[Any, Any] = {}
        self._benchmarked: set[Any] = set()
        self._casting = False
        self._repeats = Repeats(self) if repeats else None

    @property
    def state(self) -> Hashable:
        """What of the trace's own state decides the allocations of a call."""
        backend = dispatcher() and dispatcher()._AttentionBackendRegistry._active_backend
        return (self.phase, self._path[-1], self._gemm_workspace, self._lt_workspace, self.allowed(), backend)

    def loaded(self, run: Runnable) -> None:
        """Take over the options that change which kernels run."""
        options = run.asked
        self.benchmark = options.benchmark
        if options.autocast is not None:
            self.autocast = Autocast(TORCH_DTYPES[options.autocast])
        if self.autocast is not None or self.benchmark:
            self._repeats = None  # what was kept or timed before makes equal calls differ

    @contextmanager
    def during(self, phase: str, term: str, module: nn.Module | None = None) -> Iterator[None]:
        """As the observer's, with torch as it is on a device; what `module` calls and has called before is copied.

        The stage's autocast context ends with the phase.
        """
        self._root = module
        blending = self._repeats.blending(module) if self._repeats and module else nullcontext()
        with as_on_a_device(), stand_ins(self._calling), super().during(phase, term, module), blending:
            yield
        if self.autocast is not None:
            self.autocast.clear()

    def empty_cache(self) -> None:
        """Cached segments are given back before the next event."""
        self.cache_emptied_at.add(len(self.events))

    def call(self, module: nn.Module, function: Callable[[], Any], args: Any, kwargs: Any) -> Any:
        """Run the call of a module, or copy an equal one if it is a child of the root."""
        if self._repeats is None or torch.is_grad_enabled() or "." in self._path[-1] or module is self._root:
            return function()
        return self._repeats.run(module, function, args, kwargs)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        policy = self.autocast.policy(func) if self.autocast is not None and not self._casting else None
        if policy is None:
            return super().__torch_dispatch__(func, types, args, kwargs)
        assert self.autocast is not None
        self._casting = True  # an op that autocast has seen runs as it is, and so do the ops that it is made of
        try:
            with self:
                args, kwargs = self.autocast.cast(policy, args, kwargs or {})
            return super().__torch_dispatch__(func, types, args, kwargs)
        finally:
            self._casting = False

    def allowed(self) -> tuple[KernelName, ...]:
        """The attention kernels that may run now, in the order in which they are tried."""
        return kernels_on(self.stack) if self.package is None else (self.package,)

    @contextmanager
    def _calling(self, package: PackageName) -> Iterator[None]:
        self.package = package
        try:
            yield
        finally:
            self.package = None

    def try_plans(self, key: Any, workspace: int) -> None:
        """`cudnn.benchmark`: at a convolution's first call its plans are timed in one buffer, then the cache is emptied."""
        if self.benchmark and key not in self._benchmarked:
            self._benchmarked.add(key)
            self.give_back(self.borrow(workspace))
            self.cache_emptied_at.add(len(self.events))

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

    def borrow(self, size: int, price: Price | None = None) -> list[int]:
        """Take `size` bytes until `give_back`; nothing for 0."""
        if not size and not (self.slots and price):
            return []
        number = self.allocate(size, (size,), "byte", "workspace")
        self.blocks[number].price = price
        return [number]

    def give_back(self, taken: list[int]) -> None:
        """Free borrowed buffers, last first, as scopes end."""
        for number in reversed(taken):
            self.release(number)

    def keep_gemm_workspace(self, with_bias: bool) -> None:
        """The first product takes a workspace, after its output, which the library keeps (ATen CublasHandlePool.cpp)."""
        own = lt_workspace_bytes(self.stack) if runs_on_lt(self.stack, with_bias) else None
        # Before 2.12 the handle that cuBLASLt borrows of cuBLAS took cuBLAS's workspace along.
        if not self._gemm_workspace and (own is None or self.stack.torch_release < (2, 12, 0)):
            self._gemm_workspace = True
            self.borrow(cublas_workspace_bytes(self.stack))
        if own is not None and not self._lt_workspace:
            self._lt_workspace = True
            self.borrow(own)


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
    """What is needed to make such a result again; None for a result that is not all tensors without data."""
    if isinstance(result, torch.Tensor):
        if is_real(result):
            return None  # a model's own tensor on the host: it has values, and decisions may follow from them
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
