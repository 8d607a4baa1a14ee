"""What the section of one workload says beside its waterfall: readings, options, what is alive at the peak, notes."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from profiler.records import AppliedOption, Estimate, Measurement, Memory, Reading, Record
from profiler.report.cells import NO_REASON, Cell, Footnotes
from profiler.units import format_bytes
from profiler.workload import option_names

READINGS = (
    ("peak allocated", "peak.allocated_bytes"),
    ("peak reserved", "peak.reserved_bytes"),
    ("peak device", "peak.device_bytes"),
    ("end allocated", "end.allocated_bytes"),
    ("end reserved", "end.reserved_bytes"),
    ("end device", "end.device_bytes"),
    ("peak requested", "requested_peak_bytes"),
    ("peak active", "active_peak_bytes"),
    ("device free", "device_free_bytes"),
    ("this process", "process_bytes"),
    ("retries", "alloc_retries"),
    ("OOMs", "ooms"),
    ("seconds", "seconds"),
)


@dataclass(frozen=True)
class ReadingTable:
    """The readings by phase. A quantity unknown in every phase is no column; it stands in `unknown` by its reason."""

    heads: list[str]
    rows: list[tuple[str, list[Cell]]]
    unknown: dict[str, list[str]]


@dataclass(frozen=True)
class OptionRow:
    """A memory option: whether the workload asks for it, and what each side reports of it."""

    name: str
    asked: bool
    estimated: AppliedOption | None
    measured: AppliedOption | None


def reading_table(measurement: Measurement, notes: Footnotes) -> ReadingTable:
    """Phases from process start to the last warm call: sizes for a reader, counts and seconds as they are."""
    named: list[tuple[str, Reading]] = [(reading.phase, reading) for reading in measurement.readings]
    named += [(f"warm {number}", reading) for number, reading in enumerate(measurement.warm, 1)]
    known = [(head, field) for head, field in READINGS if any(attrgetter(field)(r) is not None for _, r in named)]
    rows = [
        (name, [_reading_cell(measurement, reading, field, notes) for _, field in known]) for name, reading in named
    ]
    unknown: dict[str, list[str]] = {}
    for head, field in READINGS:
        if (head, field) not in known:
            unknown.setdefault(_why(measurement, field), []).append(head)
    return ReadingTable([head for head, _ in known], rows, unknown)


def option_rows(record: Record) -> list[OptionRow]:
    """Every option that was asked for or that a side reports on, in the order of MemoryOptions."""
    estimated = record.estimate.options if record.estimate else {}
    measured = record.measurement.options if record.measurement else {}
    asked = [name for name in option_names() if getattr(record.workload.options, name)]
    names = dict.fromkeys([*asked, *estimated, *measured])
    return [OptionRow(name, name in asked, estimated.get(name), measured.get(name)) for name in names]


def alive(record: Record) -> Estimate | Measurement | None:
    """The side that the table of largest tensors is taken from: the measured one where it has any."""
    sides = [side for side in (record.measurement, record.estimate) if side is not None and side.largest]
    return sides[0] if sides else None


def sizes_in_common(estimate: Estimate, measurement: Measurement) -> int:
    """How many of the measured largest tensors have a tensor of the same bytes in the estimate's list."""
    counts = [Counter(tensor.bytes for tensor in side.largest) for side in (estimate, measurement)]
    return (counts[0] & counts[1]).total()


def growth(baseline: Memory, peak: Memory) -> str | None:
    """Allocated bytes before the call, at its peak, and between; None where one is unknown."""
    low, high = baseline.allocated_bytes, peak.allocated_bytes
    if low is None or high is None:
        return None
    rise = format_bytes(high - low)
    return f"{format_bytes(low)} resident before the call, {format_bytes(high)} at the peak: {rise} more"


def all_notes(record: Record) -> list[tuple[str, str, list[str]]]:
    """Side and text of every note, and the fields it stands for."""
    fields: dict[tuple[str, str], list[str]] = {}
    for name, side in (("record", record), ("estimate", record.estimate), ("measurement", record.measurement)):
        for field, text in side.notes.items() if side else ():
            fields.setdefault((name, text), []).append(field)
    return [(*key, names) for key, names in fields.items()]


def _reading_cell(measurement: Measurement, reading: Reading, field: str, notes: Footnotes) -> Cell:
    value = attrgetter(field)(reading)
    return notes.cell(value, _reading_text(field, value), _why(measurement, field, reading.phase))


def _reading_text(field: str, value: float | None) -> str:
    if field == "seconds":
        return "" if value is None else f"{value:.3g} s"
    return format_bytes(int(value)) if field.endswith("_bytes") and value is not None else str(value)


def _why(measurement: Measurement, field: str, phase: str = "") -> str:
    if field == "seconds":
        return "the time of this phase means nothing"
    keys: Iterable[str] = (f"{phase}.{field}", field) if phase else (field,)
    return next((measurement.notes[key] for key in keys if key in measurement.notes), NO_REASON)
