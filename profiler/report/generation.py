"""A whole generation in a report: its phases in order of time, each with both sides' peaks."""

from profiler.comparison.case import Comparison, Pair
from profiler.data.memory import LEVELS, SECOND, Memory, PhasePeak
from profiler.data.units import format_bytes
from profiler.report.cells import Cell, Table


def phase_rows(comparison: Comparison) -> list[tuple[int, list[Cell]]]:
    """The phases of either side, each with its call: 0 for the load, 1 or 2; none of a single stage.

    A row is the name, with the estimate's weights on the card, both sides of each level, and by how much they differ. A 2
    behind a name stands for the second call.
    """
    record, rows = comparison.record, []
    ours, theirs = ({(p.call, p.name): p for p in s.phases} if s else {} for s in (record.estimate, record.measurement))
    for call, name in sorted(dict.fromkeys([*ours, *theirs]), key=lambda key: key[0]):
        sides = ours.get((call, name)), theirs.get((call, name))
        weights = sides[0].largest_first if isinstance(sides[0], PhasePeak) else []
        peaks = [vars(side.peak if side else Memory()) for side in sides]
        pairs = {level: Pair(*(peak[f"{level}_bytes"] for peak in peaks)) for level in LEVELS[:2]}
        on_card = ", ".join(f"{part} {format_bytes(size)}" for part, size in weights)
        sizes = [size for pair in pairs.values() for size in (pair.estimated, pair.measured)]
        apart = "; ".join(f"{pair.difference:+,} B {level}" for level, pair in pairs.items() if pair.difference)
        apart = apart or ("unknown" if None in sizes else "0")
        named = Cell(f"{name} {SECOND}" if call == SECOND else name, detail=on_card)
        rows.append((call, [named, *(Cell("unknown" if size is None else size) for size in sizes), Cell(apart)]))
    return rows


def phase_table(comparison: Comparison, word: str) -> Table:
    """A row a phase; `word` is what the measured side is called."""
    heads = [f"{level}, {side}" for level in LEVELS[:2] for side in ("estimated", word)]
    return Table(["Phase", *heads, f"estimated minus {word}"], [row for _, row in phase_rows(comparison)])
