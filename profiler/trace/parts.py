"""A trace that knows which component of a pipeline runs, and when."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from profiler.data.spans import Mark
from profiler.data.stack import Stack
from profiler.trace.trace import Trace

WORDS = {"model": "load", "cold": "first call", "warm": "second call"}  # for a reader


class PartsTrace(Trace):
    """A trace whose `marks` say when which component ran; `tell` hears which one does."""

    def __init__(self, stack: Stack, *, tell: Callable[[str], None] = lambda _: None, **rest: Any) -> None:
        super().__init__(stack, **rest)
        self._tell, self._phase = tell, ""
        self.marks: list[Mark] = []
        self._parts: list[tuple[str, int]] = []

    @property
    def running(self) -> str:
        """The innermost component that runs; empty for none."""
        return self._parts[-1][0] if self._parts else ""

    @contextmanager
    def during(self, phase: str, term: str, module: nn.Module | None = None) -> Iterator[None]:
        """As the trace's."""
        self._phase = WORDS.get(phase, phase)
        self._tell(self._phase)
        with super().during(phase, term, module):
            yield

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Whatever runs inside is the work of the component `name`."""
        self._tell(f"{self._phase}: {name}")
        self._parts.append((name, len(self.events)))
        try:
            yield
        finally:
            self._end_part()

    def enter(self, path: str) -> None:
        """A call of the pipeline's own is the work of a component, whatever that calls in turn."""
        if len(self._path) == 1:
            self._tell(f"{self._phase}: {path.split('.')[0]}")
            self._parts.append((path.split(".")[0], len(self.events)))
        super().enter(path)

    def leave(self) -> None:
        """The innermost call ends."""
        super().leave()
        if len(self._path) == 1:
            self._end_part()

    def _end_part(self) -> None:
        name, start = self._parts.pop()
        if not self._parts and name:
            self.marks.append(Mark(name, start, len(self.events)))
