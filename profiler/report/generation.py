"""A whole generation in a report: its phases in order of time, each with both sides' peaks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from profiler.comparison.case import Comparison, Pair
from profiler.data.memory import LEVELS, SECOND, Memory, PhasePeak
from profiler.data.units import format_bytes
from profiler.report.cells import Cell, Table


@dataclass(frozen=True)
class PhaseRow:
    """One phase: its call and name, the estimate's weights on the card, and its allocated and reserved peaks."""

    call: int
    name: str
    weights: str
    pairs: tuple[Pair, Pair]

    @property
    def cells(self) -> Iterator[Cell]:
        """Name, both sides of each level, and by how much they differ."""
        yield Cell(self.name, detail=self.weights)
        for pair in self.pairs:
            yield from (Cell("unknown" if size is None else size) for size in (pair.estimated, pair.measured))
        known = [(level, pair.difference) for level, pair in zip(LEVELS, self.pairs, strict=False)]
        told = "; ".join(f"{size:+,} B {level}" for level, size in known if size)
        yield Cell(told or ("unknown" if (None in dict(known).values()) else "0"))

    @property
    def step(self) -> list[Any]:
        """A step of a chart, whose bars begin at 0; what counts as a total there is the second call."""
        return [self.name, "total" if self.call == SECOND else "term", self.pairs[0].estimated, self.pairs[0].measured]


def phase_rows(comparison: Comparison) -> list[PhaseRow]:
    """The phases of either side; none of a single stage. A 2 behind a name stands for the second call."""
    record, rows = comparison.record, []
    ours, theirs = (
        {(p.call, p.name): p for p in side.phases} if side else {} for side in (record.estimate, record.measurement)
    )
    for call, name in sorted(dict.fromkeys([*ours, *theirs]), key=lambda key: key[0]):
        sides = ours.get((call, name)), theirs.get((call, name))
        weights = sides[0].largest_first if isinstance(sides[0], PhasePeak) else []
        peaks = [side.peak if side else Memory() for side in sides]
        allocated, reserved = (Pair(*(getattr(p, f"{level}_bytes") for p in peaks)) for level in LEVELS[:2])
        told = ", ".join(f"{part} {format_bytes(size)}" for part, size in weights)
        rows.append(PhaseRow(call, f"{name} {SECOND}" if call == SECOND else name, told, (allocated, reserved)))
    return rows


def phase_table(comparison: Comparison, word: str) -> Table:
    """A row a phase; `word` is what the measured side is called."""
    heads = [f"{level}, {side}" for level in LEVELS[:2] for side in ("estimated", word)]
    return Table(["Phase", *heads, f"estimated minus {word}"], [[*row.cells] for row in phase_rows(comparison)])
