"""A trace that also notes who reads each tensor, in which call of which module, and which kernel an op runs as.

Births and deaths say what is alive. Reads say why: a tensor that a later op reads has to be there, one that no op reads
again is only held.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from profiler.diagnosis.profile import Call, Kernel
from profiler.trace import repeated_calls
from profiler.trace.repeated_calls import Repeats, as_called
from profiler.trace.trace import Trace
from profiler.trace.trees import Tree

ROUTED = frozenset({torch.ops.aten.convolution.default, torch.ops.aten.scaled_dot_product_attention.default})


class UsageTrace(Trace):
    """`reads_of[op]` are the blocks that it reads, weights left out; `kernels[op]` is what it ran as; `calls` in order.

    `call_of[op]` is the innermost call around it, `freed_in[block]` the one that is running when it dies: -1 is the stage.
    Of a call that repeats an earlier one all this is copied with its allocations.
    """

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self._repeats = self._repeats and UsedRepeats(self)
        self.reads_of: dict[int, list[int]] = {}
        self.calls: list[Call] = []
        self.call_of: dict[int, int] = {}
        self.kernels: dict[int, Kernel] = {}
        self.freed_in: dict[int, int] = {}
        self.open = [-1]

    @property
    def reads(self) -> dict[int, list[int]]:
        """By block, the ops that read it, rising."""
        found = defaultdict[int, list[int]](list)
        for op, numbers in self.reads_of.items():
            for number in numbers:
                found[number].append(op)
        return found

    def note_reads(self, op: int, value: Any) -> None:
        """The op reads the tensors in `value`."""
        found = sorted(number for number in self.storages_of(value) if self.blocks[number].term != "weights")
        self.reads_of.setdefault(op, []).extend(found)

    def enter(self, path: str) -> None:
        """Note the call."""
        super().enter(path)
        self.calls.append(Call(path, len(self.ops), self.open[-1]))
        self.open.append(len(self.calls) - 1)

    def leave(self) -> None:
        """Note its end."""
        super().leave()
        self.calls[self.open.pop()].end = len(self.ops)

    def release(self, number: int) -> None:
        """Note which call is running: a variable of a module's `forward` dies while that call is still open."""
        super().release(number)
        self.freed_in[number] = self.open[-1]

    def copied(self, old: int, new: int) -> None:
        """Block `new` is a copy of `old`, which an equal call made before."""

    def execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Note what the op reads, run it, and note what it was priced as. A view reads nothing: it names bytes anew."""
        op = len(self.ops) - 1
        self.call_of[op] = self.open[-1]
        if not _is_view(func):
            self.note_reads(op, (args, kwargs))
        if func not in ROUTED:
            return super().execute(func, args, kwargs)
        before = self.routes.copy()
        result = super().execute(func, args, kwargs)
        name = next(iter(self.routes - before), "")
        self.kernels[op] = Kernel(name, f"{args[0].dtype}, last dim {args[0].shape[-1]}", len(self.ops))
        return result


class UsedRepeats(Repeats):
    """Copies what an equal call noted too: its ops, all of them in order, who read what in which calls, who freed it."""

    def __init__(self, story: UsageTrace) -> None:
        super().__init__(story)
        self.used = story
        self._spans: dict[tuple[str, int, int], tuple[range, range]] = {}  # ops and calls of a call

    def run(self, called: Any, function: Callable[[], Any], args: Any, kwargs: Any) -> Any:
        used = self.used
        path, events, ops, calls = used.path, len(used.events), len(used.ops), len(used.calls)

        def noted() -> Any:
            result = function()
            self._spans[path, events, len(used.events)] = range(ops, len(used.ops)), range(calls, len(used.calls))
            return result

        return super().run(called, noted, args, kwargs)

    def ops_of(self, call: repeated_calls.Call, path: str) -> dict[int, int]:
        """All ops that the call had are noted again, not only those that make a block."""
        used, (ops, _) = self.used, self._spans[call.path, call.begin, call.end]
        start = len(used.ops)
        used.ops += [(as_called(name, call.path, path), op) for name, op in used.ops[ops.start : ops.stop]]
        return {op: op + start - ops.start for op in range(ops.start - 1, ops.stop)}

    def copy(self, call: repeated_calls.Call, given: Tree, path: str) -> Any:
        used, own = self.used, self.used.open[-1]
        ops, calls = self._spans[call.path, call.begin, call.end]
        later, further = len(used.ops) - ops.start, len(used.calls) - calls.start
        first = len(used.blocks)

        def call_at(old: int) -> int:
            return old + further if old >= calls.start else own

        def block_at(old: int) -> int:
            return old - call.first + first if old >= call.first else given.items[call.views[old]].block

        result = super().copy(call, given, path)
        for op in ops:
            if op in used.call_of:
                used.call_of[op + later] = call_at(used.call_of[op])
            if op in used.reads_of:
                used.reads_of[op + later] = [block_at(number) for number in used.reads_of[op]]
            if kernel := used.kernels.get(op):
                used.kernels[op + later] = replace(kernel, end=kernel.end + later)
        for old in used.calls[calls.start : calls.stop]:
            where = as_called(old.path, call.path, path)
            used.calls.append(Call(where, old.first + later, call_at(old.parent), old.end + later))
        for event in used.events[call.begin : call.end]:
            if event >= 0:
                used.copied(event, block_at(event))
            elif (new := block_at(~event)) in used.freed_in:
                used.freed_in[new] = call_at(used.freed_in[~event])
        return result


def _is_view(func: Any) -> bool:
    return not func._schema.is_mutable and any(r.alias_info is not None for r in func._schema.returns)
