"""A trace of a whole generation that also notes by which line of Python each tensor is held."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

from torch import nn

from profiler.diagnosis.usage import UsageTrace
from profiler.stages.generation import Generation
from profiler.trace.placed import PlacedTrace

PACKAGE = str(Path(__file__).parents[1])
OUTERMOST = Generation.__call__.__code__


class Mark:
    """What a frame carries while it runs, so that no later one is taken for it; a debugger may call it."""

    def __call__(self, *event: Any) -> None:
        """Ask for no more events of this frame."""


class Running(NamedTuple):
    """A call that is running: what its frame is known by, its code, the instruction that it is at."""

    known_by: Any
    code: CodeType
    at: int


class HeldTrace(UsageTrace, PlacedTrace):
    """`held[block]` is the code and the instruction that made it and outside of which it lived on.

    Of the calls that were running when a tensor was made, outermost first, the first one that has moved on when it dies is
    the one that held it: in a variable of its own, or in something that it holds. A call that stands where it stood, but
    has there called anew, as a loop does, had put it somewhere: it is the one.
    """

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self.held: dict[int, tuple[CodeType, int]] = {}
        self._made: dict[int, list[Running]] = {}
        self.spans: list[tuple[range, range]] = []  # events and ops of each call

    @contextmanager
    def during(self, phase: str, term: str, module: nn.Module | None = None) -> Iterator[None]:
        """As the placed trace's; note where calls begin and end."""
        events, ops = len(self.events), len(self.ops)
        with super().during(phase, term, module):
            yield
        if phase in ("cold", "warm"):
            self.spans.append((range(events, len(self.events)), range(ops, len(self.ops))))

    def allocate(self, size: int, shape: tuple[int, ...], dtype: str, term: str) -> int:
        """Note the calls that are running."""
        number = super().allocate(size, shape, dtype, term)
        if term == "activations":
            self._made[number] = self._look()
        return number

    def release(self, number: int) -> None:
        """Note which of them held it."""
        super().release(number)
        if made := self._made.pop(number, []):
            now = self._look()
            same = next((n for n, (old, new) in enumerate(zip(made, now, strict=False)) if old != new), len(now))
            anew = 0 < same < min(len(now), len(made)) and now[same].known_by != made[same].known_by
            holder = made[same - 1] if anew else next((c for c in made[same:] if not _is_own(c.code)), made[-1])
            self.held[number] = holder.code, holder.at

    def _move(self, x: Any, *how: Any) -> Any:
        """As the placed trace's; a move reads what it copies."""
        self.note_reads(len(self.ops), x)
        return super()._move(x, *how)

    def copied(self, old: int, new: int) -> None:
        """Note who holds it: as there, where it died in the call, else one of the calls around."""
        if self.blocks[new].died is None and self.blocks[new].term == "activations":
            self._made[new] = self._look()
        elif old in self.held:
            self.held[new] = self.held[old]

    def _look(self) -> list[Running]:
        """The calls below the pipeline's, outermost first. No frame is kept: it would keep its variables."""
        frame: FrameType | None = sys._getframe()
        found = []
        while frame is not None and _is_own(frame.f_code) and frame.f_code is not OUTERMOST:  # who looks on
            frame = frame.f_back
        while frame is not None and frame.f_code is not OUTERMOST:
            if frame.f_trace is None:  # its address is another frame's once it ends
                frame.f_trace = Mark()
            known_by = frame.f_trace if isinstance(frame.f_trace, Mark) else id(frame)
            found.append(Running(known_by, frame.f_code, frame.f_lasti))
            frame = frame.f_back
        return found[::-1]


def _is_own(code: CodeType) -> bool:
    return code.co_filename.startswith(PACKAGE)
