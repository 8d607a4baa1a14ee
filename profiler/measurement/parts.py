"""The phases of a generation on a device: which component runs when, and the highest moment of each phase.

The meter is read wherever the call of a component or of one of its parts begins, and where the former ends. By the call of
its first part, hooks have brought a component's weights, and have taken its predecessor's away.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import dropwhile, pairwise
from typing import Any
from unittest.mock import patch

from torch import nn

from profiler.data.memory import Memory, PhaseLevels
from profiler.data.spans import Mark, Span, spans_of
from profiler.measurement.meter import Cut, Meter


class Parts:
    """Hears the components of a pipeline, by name, while `watched`. A meter that gives no cuts gives no phases."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._marks: list[Mark] = []
        self._ends: list[int] = []  # of the load and of each call
        self._depth = 0
        self.cuts: list[Cut] = []

    @contextmanager
    def watched(self, pipeline: nn.Module | None) -> Iterator[None]:
        """The load, or a call of `pipeline`, whose children are its components."""
        children = pipeline.named_children() if pipeline else ()
        names = {id(module): name for name, whole in children for module in whole.modules()}
        usual = nn.Module.__call__

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            with self.part(names.get(id(module), "")):
                return usual(module, *args, **kwargs)

        with patch.object(nn.Module, "__call__", call):
            self._cut()
            try:
                yield
            finally:
                self._ends.append(self._cut())

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Whatever runs inside is the work of the component `name`; within another's it is that one's."""
        start = self._cut() if self._depth < 2 else 0
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth and name:
                self._marks.append(Mark(name, start, self._cut()))

    def phases(self) -> tuple[PhaseLevels, ...]:
        """Of the load, and of the first two calls."""
        load, first, end = (*self._ends[:3], self._ends[-1])[:3]
        spans = spans_of(self._marks, load, first, end) if self.cuts else ()
        return tuple(PhaseLevels(name=span.name, call=span.call, peak=self._peak(span)) for span in spans)

    def _cut(self) -> int:
        cut = self._meter.cut()
        self.cuts += [cut] if cut else []
        return cut.position if cut else 0

    def _peak(self, span: Span) -> Memory:
        """The highest of the stretches between cuts, from the first that rises: what is evicted before is of no phase."""
        inside = [(a, b) for a, b in pairwise(self.cuts) if span.start <= a.position < b.position <= span.stop]
        rising = dropwhile(lambda pair: pair[0].now.allocated_bytes == pair[1].peak.allocated_bytes, inside)
        peaks = [vars(b.peak) for _, b in list(rising) or inside[-1:]]
        return Memory(**{level: max(peak[level] for peak in peaks) for level in ("allocated_bytes", "reserved_bytes")})
