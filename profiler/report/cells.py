"""Figures ready to print: the rows of the table and of the waterfall, and the reason of every unknown as a footnote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from profiler.comparison.case import Comparison, Pair
from profiler.data.records import Record
from profiler.data.units import format_bytes, format_percent
from profiler.report.engine import format_exact
from profiler.report.words import added_workspace, card_of, format_clip, is_judged, provenance_of

Side = Literal["estimated", "measured"]
Role = Literal["latent", "term", "total"]
SIDES: tuple[Side, Side] = ("estimated", "measured")

UNITS = (
    "KiB, MiB and GiB are 2\u00b9\u2070, 2\u00b2\u2070 and 2\u00b3\u2070 bytes. "
    "Error is (estimated \u2212 measured) / measured, in allocated bytes: with a plus the estimate is too high, "
    "with a minus too low."
)
NO_REASON = "no reason was recorded"
COLUMNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Workload", ("model", "stage", "frames \u00d7 height \u00d7 width", "batch", "dtype", "options")),
    ("Case", ("kind", "status")),
    ("Allocated", ("estimated", "measured", "error", "verdict")),
    ("Reserved", ("estimated", "measured")),
    ("Device", ("estimated", "measured")),
)
TENSOR_TERMS = ("weights", "inputs", "outputs", "activations", "workspace")  # they add up to allocated
STEPS: tuple[tuple[str, Role], ...] = (
    ("latent", "latent"),
    *((name, "term") for name in TENSOR_TERMS),
    *(("allocated", "total"), ("cached", "term"), ("reserved", "total"), ("context", "term"), ("device", "total")),
)


@dataclass(frozen=True)
class Cell:
    """One figure or word: its text, the number it sorts by, the footnote of an unknown, and a smaller second line."""

    text: str
    value: float | None = None
    note: int | None = None
    detail: str = ""


class Footnotes:
    """The reasons of unknown figures, numbered from 1 in the order of their first use."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def reasons(self) -> list[str]:
        """Every reason once; the first is number 1."""
        return list(self._numbers)

    def cell(self, value: float | None, text: str, reason: str) -> Cell:
        """`text` for a known `value`; `unknown` with the footnote of its `reason` for None."""
        if value is not None:
            return Cell(text, value)
        return Cell("unknown", note=self._numbers.setdefault(reason, len(self._numbers) + 1))

    def size(self, size: int | None, reason: str) -> Cell:
        """`size` bytes, rounded for a reader."""
        return self.cell(size, format_bytes(size), reason)

    def exact(self, size: int | None, reason: str) -> Cell:
        """`size` to the byte."""
        return self.cell(size, format_exact(size), reason)


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


def table_row(comparison: Comparison, notes: Footnotes) -> list[Cell]:
    """One case in the order of COLUMNS."""
    record, workload = comparison.record, comparison.record.workload
    provenance = provenance_of(comparison)
    cells = [
        *(Cell(workload.model), Cell(workload.stage)),
        Cell(format_clip(workload), workload.frames * workload.height * workload.width),
        *(Cell(str(workload.batch), workload.batch), Cell(workload.dtype), Cell(workload.options.key or "none")),
        Cell("measured (CPU)") if provenance == "cpu" else Cell(provenance, detail=card_of(record)),
        Cell(record.status),
    ]
    for quantity in ("allocated", "reserved", "device"):
        for side in SIDES:
            reason = why_unknown(record, side, f"peak.{quantity}_bytes")
            cells.append(notes.size(getattr(getattr(comparison, quantity), side), reason))
        if quantity == "allocated":
            cells += [_error_cell(record, comparison.allocated, notes), _verdict_cell(comparison)]
    return cells


def _verdict_cell(comparison: Comparison) -> Cell:
    """The verdict on allocated bytes, with its tolerance and its reason."""
    limit = f"tolerance {comparison.tolerance * 100:g} %" if is_judged(comparison) else ""
    return Cell(comparison.verdict, detail="; ".join(part for part in (limit, comparison.reason) if part))


def waterfall_steps(comparison: Comparison) -> list[Step]:
    """From latent bytes to device bytes. The latent (closed form) is a part of inputs or outputs, not a summand."""
    estimate = comparison.record.estimate
    pairs = {
        **comparison.terms,
        "latent": Pair(estimated=estimate.latent.get("memory_bytes") if estimate else None, measured=None),
        **{name: getattr(comparison, name) for name in ("allocated", "reserved", "device")},
    }
    workspace, extra = pairs["workspace"], added_workspace(comparison)
    filled = bool(extra) and workspace.estimated is None
    if filled:
        pairs["workspace"] = Pair(estimated=extra, measured=workspace.measured)
    return [Step(name, role, pairs[name], filled and name == "workspace") for name, role in STEPS]


def step_cells(comparison: Comparison, step: Step, notes: Footnotes) -> list[Cell]:
    """Estimated, measured and their difference, to the byte."""
    record, pair = comparison.record, step.pair
    reason = why_unknown(record, "estimated", step.field)
    if step.role == "latent":
        return [notes.exact(pair.estimated, reason), Cell("not measured: a formula"), Cell("not compared")]
    estimated = notes.exact(pair.estimated, reason)
    if step.borrowed:
        estimated = Cell(estimated.text, estimated.value, notes.exact(None, reason).note, "as measured")
    measured = notes.exact(pair.measured, why_unknown(record, "measured", step.field))
    difference = Cell("unknown", note=measured.note or estimated.note)
    if pair.difference is not None:
        difference = Cell(f"{pair.difference:+,} B" if pair.difference else "0 B", pair.difference)
    return [estimated, measured, difference]


def side_cells(comparison: Comparison, side: Side, notes: Footnotes) -> list[Cell]:
    """The steps of one side, rounded; the latent is that of the estimate on both."""
    found = []
    for step in waterfall_steps(comparison):
        source: Side = "estimated" if step.role == "latent" else side
        cell = notes.size(getattr(step.pair, source), why_unknown(comparison.record, source, step.field))
        stands_in = step.borrowed and side == "estimated"
        found.append(replace(cell, text=f"{cell.text} as measured") if stands_in else cell)
    return found


def unexplained(steps: Sequence[Step]) -> Pair:
    """Allocated bytes that the five terms leave over, each side: 0 where the account closes, None if unknown."""
    pairs = {step.name: step.pair for step in steps}

    def rest(side: Side) -> int | None:
        total, *terms = (getattr(pairs[name], side) for name in ("allocated", *TENSOR_TERMS))
        return None if None in (total, *terms) else total - sum(terms)

    return Pair(estimated=rest("estimated"), measured=rest("measured"))


def _error_cell(record: Record, pair: Pair, notes: Footnotes) -> Cell:
    missing: Side = "measured" if pair.measured is None else "estimated"
    reason = why_unknown(record, missing, "peak.allocated_bytes")
    if pair.measured == 0:
        reason = "nothing to divide by: 0 B were measured"
    return notes.cell(pair.error, format_percent(pair.error) if pair.difference else "0 %", reason)
