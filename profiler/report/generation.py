"""A whole generation in a report: its phases in order of time, each with both sides' peaks."""

from dataclasses import dataclass
from typing import Any

from profiler.comparison.case import Comparison, Pair
from profiler.data.memory import LEVELS, SECOND, Memory, PhasePeak
from profiler.data.units import format_bytes
from profiler.report.cells import Cell, Table


@dataclass(frozen=True)
class PhaseRow:
    """One phase of call 0 (the load), 1 or 2: its name, the estimate's weights on the card, both sides' peaks by level."""

    call: int
    name: str
    weights: str
    pairs: dict[str, Pair]

    @property
    def cells(self) -> list[Cell]:
        """Name, both sides of each level, and by how much they differ."""
        sizes = [size for pair in self.pairs.values() for size in (pair.estimated, pair.measured)]
        told = "; ".join(f"{pair.difference:+,} B {level}" for level, pair in self.pairs.items() if pair.difference)
        told = told or ("unknown" if None in sizes else "0")
        return [Cell(self.name, detail=self.weights), *(Cell("unknown" if s is None else s) for s in sizes), Cell(told)]

    @property
    def step(self) -> list[Any]:
        """A step of a chart, whose bars begin at 0; what counts as a total there is the second call."""
        name, estimated, measured, *_ = (cell.content for cell in self.cells)
        return [name, "total" if self.call == SECOND else "term", estimated, measured]


def phase_rows(comparison: Comparison) -> list[PhaseRow]:
    """The phases of either side; none of a single stage. A 2 behind a name stands for the second call."""
    record, rows = comparison.record, []
    ours, theirs = ({(p.call, p.name): p for p in s.phases} if s else {} for s in (record.estimate, record.measurement))
    for call, name in sorted(dict.fromkeys([*ours, *theirs]), key=lambda key: key[0]):
        sides = ours.get((call, name)), theirs.get((call, name))
        weights = sides[0].largest_first if isinstance(sides[0], PhasePeak) else []
        peaks = [vars(side.peak if side else Memory()) for side in sides]
        pairs = {level: Pair(*(peak[f"{level}_bytes"] for peak in peaks)) for level in LEVELS[:2]}
        told = ", ".join(f"{part} {format_bytes(size)}" for part, size in weights)
        rows.append(PhaseRow(call, f"{name} {SECOND}" if call == SECOND else name, told, pairs))
    return rows


def phase_table(comparison: Comparison, word: str) -> Table:
    """A row a phase; `word` is what the measured side is called."""
    heads = [f"{level}, {side}" for level in LEVELS[:2] for side in ("estimated", word)]
    return Table(["Phase", *heads, f"estimated minus {word}"], [row.cells for row in phase_rows(comparison)])
