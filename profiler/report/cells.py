"""Figures ready to print: the rows of the table and of the waterfall, and the reason of every unknown as a footnote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from profiler.comparison.case import Comparison, Pair
from profiler.data.memory import ALLOCATED_TERMS, LEVELS
from profiler.data.records import Estimate, Record
from profiler.data.text import fit_command
from profiler.data.units import format_bytes, format_percent
from profiler.machine.cards import gpus
from profiler.report.words import added_workspace, card_of, format_clip, format_tolerances, is_judged, measured_word

Side = Literal["estimated", "measured"]
Role = Literal["latent", "term", "total"]
SIDES: tuple[Side, Side] = ("estimated", "measured")

UNITS = (
    "KiB, MiB and GiB are 2\u00b9\u2070, 2\u00b2\u2070 and 2\u00b3\u2070 bytes. "
    "Error is (estimated \u2212 measured) / measured, in allocated bytes: with a plus the estimate is too high, "
    "with a minus too low."
)
NO_REASON = "no reason was recorded"
COLUMNS = (
    *("model", "stage", "frames \u00d7 height \u00d7 width", "batch", "dtype", "options", "kind", "status"),
    "fits",
    *("allocated, estimated", "allocated, measured", "error", "verdict"),
    *(f"{name}, {side}" for name in LEVELS[1:] for side in SIDES),
)
ALWAYS = ("model", "stage", COLUMNS[2], *COLUMNS[9:13])  # columns that stand even where every row says the same
STEPS: tuple[tuple[str, Role], ...] = (
    ("latent", "latent"),
    *((name, "term") for name in ALLOCATED_TERMS),
    *(("allocated", "total"), ("cached", "term"), ("reserved", "total"), ("context", "term"), ("device", "total")),
)


@dataclass(frozen=True)
class Cell:
    """A figure or word: text, or a size in bytes; the footnote of an unknown; and a smaller second line."""

    content: str | int
    note: int | None = None
    detail: str = ""

    @property
    def text(self) -> str:
        """As it is printed: a size rounded, with its unit."""
        return self.content if isinstance(self.content, str) else format_bytes(self.content)

    @property
    def data(self) -> Any:
        """For the page's script: the content alone where there is nothing beside it."""
        return [self.content, self.detail, self.note] if self.note or self.detail else self.content


class Footnotes:
    """The reasons of unknown figures, numbered from 1 in the order of their first use."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def reasons(self) -> list[str]:
        """Every reason once; the first is number 1."""
        return list(self._numbers)

    def cell(self, content: str | int | None, reason: str) -> Cell:
        """A known `content`; for None `unknown`, with the footnote of its `reason`."""
        if content is not None:
            return Cell(content)
        return Cell("unknown", note=self._numbers.setdefault(reason, len(self._numbers) + 1))


@dataclass(frozen=True)
class Step:
    """A row of the waterfall. `borrowed`: the estimate has no figure of its own, and the measured one stands for it."""

    name: str
    role: Role
    pair: Pair
    borrowed: bool = False

    @property
    def field(self) -> str:
        """The dotted name that a note about this figure has."""
        return {"latent": "latent", "total": f"peak.{self.name}_bytes"}.get(self.role, f"terms.{self.name}")


@dataclass(frozen=True)
class Table:
    """Heads and rows, and what every row says alike: said once, it is no column."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    alike: Sequence[str] = ()

    def without_repeats(self, always: Sequence[str], notes: Footnotes) -> "Table":
        """The same table without the columns in which all of several rows are equal; `always` names those that stay.

        In a column that stays, a second line that is the same in every row is said once too.
        """
        if len(self.rows) < 2:
            return self
        alike, kept = [], []
        for head, column in zip(self.heads, zip(*self.rows, strict=True), strict=True):
            cells, first = list(column), column[0]
            if head not in always and len(set(cells)) == 1:
                reason = notes.reasons[first.note - 1] if first.note else first.detail
                alike.append(f"{head}: {first.text}{f' ({reason})' if reason else ''}")
                continue
            if first.detail and len({cell.detail for cell in cells}) == 1:
                alike.append(f"{head}: {first.detail}")
                cells = [replace(cell, detail="") for cell in cells]
            kept.append((head, cells))
        columns = [cells for _, cells in kept]
        return Table([head for head, _ in kept], list(zip(*columns, strict=True)), alike)


def find_note(fields: Sequence[str], *notes: Mapping[str, str]) -> str:
    """The first of `notes` about one of `fields`, the earlier ones before the later."""
    return next((found[field] for found in notes for field in fields if field in found), NO_REASON)


def why_unknown(record: Record, side: Side, field: str) -> str:
    """Why `field` (dotted, as `peak.device_bytes`) of one side is unknown, from the notes of the record."""
    source = record.estimate if side == "estimated" else record.measurement
    if source is not None:
        return find_note((field, field.split(".")[0]), source.notes, record.notes)
    if side == "estimated":
        return record.notes.get("estimate", "no estimate was made")
    ended = "estimate only" if record.status == "ok" else record.status
    return record.notes.get("measurement", f"{ended}: nothing was measured")


def case_table(comparisons: Sequence[Comparison], notes: Footnotes) -> Table:
    """Every case, a row each, in the order of COLUMNS."""
    judged = [row for row in comparisons if is_judged(row)]
    limit = f"tolerance {format_tolerances(judged)}" if len({row.tolerance for row in judged}) == 1 else ""
    rows = [table_row(row, notes, limit) for row in comparisons]
    table = Table(COLUMNS, rows).without_repeats(ALWAYS, notes)
    word = measured_word(comparisons)
    heads = [head.replace("measured", word) for head in table.heads]
    return replace(table, heads=heads, alike=[*filter(None, [limit]), *table.alike])


def table_row(comparison: Comparison, notes: Footnotes, said: str = "") -> list[Cell]:
    """One case in the order of COLUMNS; `said` is the tolerance that needs no repeating."""
    record, workload = comparison.record, comparison.record.workload
    kind = "measured" if record.kind == "cuda" else record.kind
    cells = [
        *(Cell(workload.model), Cell(workload.stage), Cell(format_clip(workload)), Cell(str(workload.batch))),
        *(Cell(workload.dtype), Cell(workload.options_key or "none")),
        Cell("measured (CPU)") if kind == "cpu" else Cell(kind, detail=card_of(record)),
        Cell(record.status),
        Cell(_fits(record.estimate), detail=_what_to_change(record)),
    ]
    for quantity in LEVELS:
        for side in SIDES:
            reason = why_unknown(record, side, f"peak.{quantity}_bytes")
            cells.append(notes.cell(getattr(getattr(comparison, quantity), side), reason))
        if quantity == "allocated":
            limit = f"tolerance {comparison.tolerance * 100:g} %" if is_judged(comparison) and not said else ""
            verdict = Cell(comparison.verdict, detail="; ".join(filter(None, (limit, comparison.reason))))
            cells += [_error_cell(record, comparison.allocated, notes), verdict]
    return cells


def waterfall_steps(comparison: Comparison) -> list[Step]:
    """From latent bytes to device bytes. The latent (closed form) is a part of inputs or outputs, not a summand."""
    estimate = comparison.record.estimate
    pairs = {
        **comparison.terms,
        "latent": Pair(estimated=estimate.latent.get("memory_bytes") if estimate else None, measured=None),
        **{name: getattr(comparison, name) for name in LEVELS},
    }
    workspace, extra = pairs["workspace"], added_workspace(comparison)
    filled = bool(extra) and workspace.estimated is None
    if filled:
        pairs["workspace"] = Pair(estimated=extra, measured=workspace.measured)
    return [Step(name, role, pairs[name], filled and name == "workspace") for name, role in STEPS]


def step_cell(comparison: Comparison, step: Step, side: Side, notes: Footnotes) -> Cell:
    """A step's figure on one side; the latent, a formula, is that of the estimate on both."""
    if step.role == "latent":
        side = "estimated"
    reason = why_unknown(comparison.record, side, step.field)
    cell = notes.cell(getattr(step.pair, side), reason)
    if step.borrowed and side == "estimated":
        return replace(cell, note=notes.cell(None, reason).note, detail="as measured")
    return cell


def unexplained(steps: Sequence[Step]) -> Pair:
    """Allocated bytes that the five terms leave over, each side: 0 where the account closes, None if unknown."""
    pairs = {step.name: step.pair for step in steps}

    def rest(side: Side) -> int | None:
        total, *terms = (getattr(pairs[name], side) for name in ("allocated", *ALLOCATED_TERMS))
        return None if None in (total, *terms) else total - sum(terms)

    return Pair(estimated=rest("estimated"), measured=rest("measured"))


def _fits(estimate: Estimate | None) -> str:
    """Whether the estimate fits its card; older records have a yes or no alone."""
    if estimate is None or estimate.fits is None:
        return "-"
    return estimate.verdict or ("fits" if estimate.fits else "does not fit")


def _what_to_change(record: Record) -> str:
    """The command that searches what fits, where the estimate does not; empty also for a card that is not a shipped one."""
    workload, estimate = record.workload, record.estimate
    if estimate is None or _fits(estimate) != "does not fit":
        return ""
    stack = estimate.stack
    known = (one for one in gpus().values() if (one.name, one.total_bytes) == (stack.gpu, stack.device_total_bytes))
    if (card := next(known, None)) is None:
        return ""
    return fit_command(workload.model, vars(workload) | {"gpu": card.id, "torch": stack.torch})


def _error_cell(record: Record, pair: Pair, notes: Footnotes) -> Cell:
    if pair.error is not None:
        return Cell(format_percent(pair.error) if pair.difference else "0 %")
    if pair.measured == 0:
        return notes.cell(None, "nothing to divide by: 0 B were measured")
    missing: Side = "measured" if pair.measured is None else "estimated"
    return notes.cell(None, why_unknown(record, missing, "peak.allocated_bytes"))
