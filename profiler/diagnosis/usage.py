"""A trace that also notes who reads each tensor, in which call of which module, and which kernel an op runs as.

Births and deaths say what is alive. Reads say why: a tensor that a later op reads has to be there, one that no op reads
again is only held.
"""

from collections import defaultdict
from typing import Any

import torch

from profiler.diagnosis.profile import Call, Kernel
from profiler.trace.trace import Trace

ROUTED = frozenset({torch.ops.aten.convolution.default, torch.ops.aten.scaled_dot_product_attention.default})


class UsageTrace(Trace):
    """`reads[block]` are the ops that read it, rising; `calls` in order of entry; `kernels[op]` what an op ran as.

    `call_of[op]` is the innermost call around it, `freed_in[block]` the one that is running when it dies: -1 is the stage.
    Calls that repeat an earlier one are traced like any other: copied from it they would have no reads of their own.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, repeats=False)
        self.reads: dict[int, list[int]] = defaultdict(list)
        self.calls: list[Call] = []
        self.call_of: dict[int, int] = {}
        self.kernels: dict[int, Kernel] = {}
        self.freed_in: dict[int, int] = {}
        self._open = [-1]

    def enter(self, path: str) -> None:
        """Note the call."""
        super().enter(path)
        self.calls.append(Call(path, len(self.ops), self._open[-1]))
        self._open.append(len(self.calls) - 1)

    def leave(self) -> None:
        """Note its end."""
        super().leave()
        self.calls[self._open.pop()].end = len(self.ops)

    def release(self, number: int) -> None:
        """Note which call is running: a variable of a module's `forward` dies while that call is still open."""
        super().release(number)
        self.freed_in[number] = self._open[-1]

    def execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Note what the op reads, run it, and note what it was priced as. A view reads nothing: it names bytes anew."""
        op = len(self.ops) - 1
        self.call_of[op] = self._open[-1]
        if not _is_view(func):
            for number in self.storages_of((args, kwargs)):
                self.reads[number].append(op)
        if func not in ROUTED:
            return super().execute(func, args, kwargs)
        before = self.routes.copy()
        result = super().execute(func, args, kwargs)
        name = next(iter(self.routes - before), "")
        self.kernels[op] = Kernel(name, f"{args[0].dtype}, last dim {args[0].shape[-1]}", len(self.ops))
        return result


def _is_view(func: Any) -> bool:
    return not func._schema.is_mutable and any(r.alias_info is not None for r in func._schema.returns)
