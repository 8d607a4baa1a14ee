"""Runs a call on tensors without data and writes down every allocation that the real kernels would make.

Tensors come from the observer; what kernels borrow besides them comes from the rules in `rules/`, by `tracing.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from profiler.data.stack import Stack
from profiler.stages.phases import Runnable
from profiler.trace.attention import stand_ins
from profiler.trace.autocast import Autocast, heard_by
from profiler.trace.known_values import is_real
from profiler.trace.meta_as_device import as_on_a_device
from profiler.trace.repeated_calls import Repeats, is_looked_at
from profiler.trace.rules.kernels import CPU_RULES, CUDA_RULES
from profiler.trace.tracing import Tracing

NUMBERS = frozenset({bool, int, float})
STEPS = frozenset({int, slice, type(None), type(...)})  # of an index that is a view


class Trace(Tracing):
    """An observer of tensors without data for one target stack. `routes` counts the kernels that calls were priced as.

    The tensors are on `device_type`: `meta`, or `cpu` where they are fake tensors that stand for real ones. With `repeats`
    off every call is traced, also one that repeats another: slower, with the same answer. With `slots` on, a buffer whose
    size is 0 here but not at every size, such as the workspace of a convolution, is noted too: a recording needs the same
    events at each of its sizes.
    """

    def __init__(self, stack: Stack, device_type: str = "meta", *, repeats: bool = True, slots: bool = False) -> None:
        super().__init__(stack, device_type, slots)
        self.casts: Autocast | None = None
        self.rules = CUDA_RULES if stack.device == "cuda" else CPU_RULES
        self._casting = False
        self._repeats = Repeats(self) if repeats else None

    def loaded(self, run: Runnable) -> None:
        """Take over the options that change which kernels run."""
        self.benchmark = run.asked.benchmark
        if self.benchmark:
            self._repeats = None  # what was timed before makes equal calls differ

    @contextmanager
    def during(self, phase: str, term: str, module: nn.Module | None = None) -> Iterator[None]:
        """As the observer's, with torch as it is on a device; what `module` calls and has called before is copied."""
        self._root = module
        blending = self._repeats.blending(module) if self._repeats and module else nullcontext()
        usual = torch.Tensor.__setitem__
        set_item = self._set_item(usual) if self.stack.device == "cuda" else usual
        numbers = patch.object(torch.Tensor, "__setitem__", set_item)
        with (
            as_on_a_device(), numbers, stand_ins(self._calling), heard_by(self),
            super().during(phase, term, module), blending,
        ):  # fmt: skip
            yield

    def _set_item(self, usual: Callable[..., None]) -> Callable[..., None]:
        """`x[where] = value`: a number stays on the host, and a device takes no memory to fill a view or a mask with it.

        On `meta`, and for a fake tensor, torch makes a tensor of it first (python_variable_indexing.cpp). Where nobody can
        ask for what `x` holds there is nothing to do: masks are built so, a row at a time.
        """

        def on_device(x: torch.Tensor, where: Any, value: Any) -> None:
            if type(value) not in NUMBERS:
                usual(x, where, value)
            elif STEPS.issuperset(map(type, where if type(where) is tuple else (where,))):
                if self.values.knows(x) or is_real(x) or x.requires_grad:
                    x[where].fill_(value)
            elif isinstance(where, torch.Tensor) and where.dtype == torch.bool and where.device == x.device:
                x.masked_fill_(where.view(*where.shape, *[1] * (x.dim() - where.dim())), value)
            else:
                usual(x, where, value)

        return on_device

    def empty_cache(self) -> None:
        """Cached segments are given back before the next event."""
        self.cache_emptied_at.add(len(self.events))

    def call(self, module: nn.Module, function: Callable[[], Any], args: Any, kwargs: Any) -> Any:
        """Run the call of a module, or copy an equal one if such a module is looked at.

        What autocast keeps makes equal calls differ.
        """
        if (
            self._repeats is None
            or self.casts is not None
            or torch.is_grad_enabled()
            or module is self._root
            or not is_looked_at(module, self.path)
        ):
            return function()
        return self._repeats.run(module, function, args, kwargs)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        casts = self.casts if self.on_device and not self._casting else None
        policy = None if casts is None else casts.policy(func)
        if casts is None or policy is None:
            return super().__torch_dispatch__(func, types, args, kwargs)
        self._casting = True  # an op that autocast has seen runs as it is, and so do the ops that it is made of
        try:
            with self:
                args, kwargs = casts.cast(policy, args, kwargs or {})
            return super().__torch_dispatch__(func, types, args, kwargs)
        finally:
            self._casting = False

    def execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run one op by its rule, or infer its result."""
        rule = self.rules.get(func)
        result = rule(self, func, args, kwargs) if rule is not None else self.infer(func, args, kwargs)
        self.values.follow(func, args, kwargs, result)
        return result

    def _died(self, key: int) -> None:
        super()._died(key)
        self.values.forget(key)
