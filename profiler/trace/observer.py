"""Watches a call operation by operation: which storage is born in which module and op, and when it dies.

One mechanism for both sides. The estimator watches tensors without data and adds what kernels borrow by rule; the
measurement watches real tensors and reads the allocator around each op. Composite operations are taken apart as the
dispatcher would, so both see the same ops; a death is the storage's own (weak reference), so views, in-place ops and
cycles count as they do on a device.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from profiler.data.events import Block
from profiler.stages.phases import Watcher

aten = torch.ops.aten

# Composite operations that a backend fuses: taken apart, they would show tensors that no device allocates.
FUSED = frozenset({aten.scaled_dot_product_attention.default, aten.rms_norm.default, aten.linear.default})
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


class Observer(TorchDispatchMode, Watcher):
    """A dispatch mode that records `blocks` and `ops` for every storage on `device_type`.

    `events` is the stream of block numbers: `n` for a birth, `~n` for a death. `ops[i]` is (module path, op name).
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and torch's guard against it costs more than an op

    def __init__(self, device_type: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device_type = device_type
        self.blocks: list[Block] = []
        self.events: list[int] = []
        self.ops: list[tuple[str, str]] = []
        self.phase = "model"
        self.term = "weights"
        self._live: dict[int, tuple[int, weakref.ref[Any]]] = {}
        self._path: list[str] = [""]
        self._composite: dict[Any, bool] = {}
        self._observing = True

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return torch.device(self.device_type)

    @contextmanager
    def during(self, phase: str, term: str, module: nn.Module | None = None) -> Iterator[None]:
        """Observe a phase, in which new storages belong to `term`; module paths are relative to `module`."""
        self.phase, self.term = phase, term
        with self._module_paths(module), self:
            yield

    def resident(self, values: Any) -> None:
        """Note the storages of `values` that are not known yet, as born in this phase."""
        self.track(values)

    def answered(self, output: Any) -> None:
        """What the call made and gives back is its output."""
        for number in self.storages_of(output):
            if self.blocks[number].phase == "cold":
                self.blocks[number].term = "outputs"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim" or not self._observing:  # prim: questions such as the device of a fake tensor
            return func(*args, **kwargs)
        if self._is_composite(func):
            with self:
                # Not `decompose()`: that prefers Python decompositions, which allocate what no kernel does.
                return func._op_dk(COMPOSITE, *args, **kwargs)
        self.ops.append((self._path[-1], str(func)))
        if func is aten.linear.default:
            with self:
                return _linear(*args)
        result = self.execute(func, args, kwargs)
        self.track(result)
        return result

    def enter(self, path: str) -> None:
        """A call of the module at `path` begins."""
        self._path.append(path)

    def leave(self) -> None:
        """The innermost call ends."""
        self._path.pop()

    def execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run one op; subclasses add what their side knows about it."""
        return func(*args, **kwargs)

    def call(self, module: nn.Module, function: Callable[[], Any], args: Any, kwargs: Any) -> Any:
        """Run the call of one module, which is `function()`; subclasses add what their side knows about it."""
        return function()

    @contextmanager
    def unobserved(self) -> Iterator[None]:
        """Let ops run without noting them."""
        self._observing = False
        try:
            yield
        finally:
            self._observing = True

    def track(self, value: Any) -> None:
        """Note the birth of every storage in `value` that is new and on the observed device."""
        if isinstance(value, torch.Tensor):
            if value.device.type == self.device_type:
                self._track(value)
        elif isinstance(value, (tuple, list, dict)):
            for item in value.values() if isinstance(value, dict) else value:
                self.track(item)

    def storages_of(self, value: Any) -> set[int]:
        """Numbers of the live blocks that hold the tensors in `value` (nested tuples, lists and dicts)."""
        if isinstance(value, torch.Tensor):
            number = self.number_of(value)
            return set() if number is None else {number}
        items = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
        return {number for item in items for number in self.storages_of(item)}

    def allocate(self, size: int, shape: tuple[int, ...], dtype: str, term: str) -> int:
        """Open a block and return its number."""
        number = len(self.blocks)
        self.blocks.append(
            Block(number, size, len(self.ops) - 1, shape, dtype, term, self.phase, born=len(self.events))
        )
        self.events.append(number)
        return number

    def release(self, number: int) -> None:
        """Close a block."""
        self.blocks[number].died = len(self.events)
        self.events.append(~number)

    def number_of(self, tensor: torch.Tensor) -> int | None:
        """The block that holds `tensor`, if it is one of these."""
        entry = self._live.get(tensor.untyped_storage()._cdata)
        return entry[0] if entry else None

    def adopt(self, tensor: torch.Tensor, number: int) -> None:
        """Let block `number` end with the storage of `tensor`."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        self._live[key] = (number, weakref.ref(storage, lambda _: self._died(key)))

    def end(self) -> None:
        """The story is told: weights, which die when somebody lets the module go, are alive at its end."""
        still = {key: (number, storage()) for key, (number, storage) in self._live.items()}
        self._live = {key: (number, weakref.ref(storage)) for key, (number, storage) in still.items() if storage}

    def _track(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        if size and storage._cdata not in self._live:
            self.adopt(tensor, self.allocate(size, tuple(tensor.shape), dtype_name(tensor.dtype), self.term))

    def _died(self, key: int) -> None:
        self.release(self._live.pop(key)[0])

    def _is_composite(self, func: Any) -> bool:
        known = self._composite.get(func)
        if known is None:
            known = func not in FUSED and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), COMPOSITE)
            self._composite[func] = known
        return known

    @contextmanager
    def _module_paths(self, root: nn.Module | None) -> Iterator[None]:
        if root is None:
            yield
            return
        names = {id(module): name for name, module in root.named_modules()}
        run = nn.Module.__call__

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            self.enter(names.get(id(module), self._path[-1]))
            try:
                return self.call(module, lambda: run(module, *args, **kwargs), args, kwargs)
            finally:
                self.leave()

        nn.Module.__call__ = call  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.__call__ = run  # type: ignore[method-assign]


@cache
def dtype_name(dtype: torch.dtype) -> str:
    """`float32` of `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`at::linear` as it runs without a dispatch mode.

    ATen (Linear.cpp) adds the bias in place after a matmul, except under a mode, where it adds out of place: a whole extra
    output that no plain run allocates. Contiguous inputs take addmm, which has the bias inside. A weight that requires a
    gradient makes matmul one of matrices, whatever copy of the input that takes (LinearAlgebra.cpp, `should_fold`).
    """
    if bias is not None and (x.dim() == 2 or (x.dim() > 2 and x.is_contiguous())):
        flat = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
        return torch.addmm(bias, flat, weight.t()).view(*x.shape[:-1], weight.shape[0])
    if x.dim() > 2 and weight.requires_grad:  # which the transpose below no longer says, under a mode
        product = torch.mm(x.reshape(-1, x.shape[-1]), weight.t()).view(*x.shape[:-1], weight.shape[0])
    else:
        product = torch.matmul(x, weight.t())
    return product if bias is None else product.add_(bias)
