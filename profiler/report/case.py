"""What the section of one workload is made of: readings, options, what is alive at the peak, notes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from profiler.data.memory import AliveTensor
from profiler.data.records import AppliedOption, Estimate, Failure, Measurement, Reading, Record
from profiler.data.units import format_bytes
from profiler.data.workload import option_names
from profiler.report.cells import Cell, Footnotes, find_note

BORROWED = 5  # ops that a section names
OPEN_NOTES = 3  # cases that may print one and the same note in full
READINGS = (
    ("peak allocated", "peak.allocated_bytes"),
    ("peak reserved", "peak.reserved_bytes"),
    ("peak device", "peak.device_bytes"),
    ("end allocated", "end.allocated_bytes"),
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
    """The readings by phase. What is 0 in every phase, or unknown (by its reason), is named once and is no column."""

    heads: list[str]
    rows: list[tuple[str, list[Cell]]]
    zero: list[str]
    unknown: dict[str, list[str]]


def reading_table(source: Measurement | Failure, notes: Footnotes) -> ReadingTable:
    """Phases from process start to the last warm call or to the failure: sizes for a reader, the rest as it is."""
    named = _phases(source.readings)
    values = {field: {attrgetter(field)(reading) for _, reading, _ in named} for _, field in READINGS}
    shown = [(head, field) for head, field in READINGS if values[field] - {None} and values[field] != {0}]
    rows = [
        (name, [_reading_cell(source, reading, field, seconds, notes) for _, field in shown])
        for name, reading, seconds in named
    ]
    unknown: dict[str, list[str]] = {}
    for head, field in READINGS:
        if values[field] == {None}:
            unknown.setdefault(_why(source, field), []).append(head)
    zero = [head for head, field in READINGS if values[field] == {0}]
    return ReadingTable([head for head, _ in shown], rows, zero, unknown)


def option_rows(record: Record) -> list[tuple[str, bool, AppliedOption | None, AppliedOption | None]]:
    """The memory options that were asked for or that a side reports on.

    Of each its name, whether the workload asks for it, and what the estimate and the measurement report of it.
    """
    estimated = record.estimate.options if record.estimate else {}
    measured = record.measurement.options if record.measurement else {}
    asked = [name for name in option_names() if getattr(record.workload.options, name)]
    names = dict.fromkeys([*asked, *estimated, *measured])
    return [(name, name in asked, estimated.get(name), measured.get(name)) for name in names]


def side_with_tensors(record: Record) -> Estimate | Measurement | None:
    """The side that the table of largest tensors is taken from: the measured one where it has any."""
    sides = [side for side in (record.measurement, record.estimate) if side is not None and side.largest]
    return sides[0] if sides else None


def count_alike(tensors: Iterable[AliveTensor]) -> list[tuple[int, AliveTensor]]:
    """How many there are of each, in order: layers often hold several of one size and maker."""
    return [(count, tensor) for tensor, count in Counter(tensors).items()]


def sizes_in_common(estimate: Estimate, measurement: Measurement) -> int:
    """How many of the measured largest tensors have a tensor of the same bytes in the estimate's list."""
    counts = [Counter(tensor.bytes for tensor in side.largest) for side in (estimate, measurement)]
    return (counts[0] & counts[1]).total()


def peak_sides(record: Record) -> list[tuple[str, Estimate | Measurement]]:
    """The sides whose peaks a section describes, with a title; one for both where the reader would see the same figures."""
    measured, estimated = record.measurement, record.estimate
    if measured and estimated and _peak_facts(measured) == _peak_facts(estimated):
        return [("Measured and estimated", measured)]
    return [(title, side) for title, side in (("Measured", measured), ("Estimated", estimated)) if side]


def _peak_facts(side: Estimate | Measurement) -> tuple[object, ...]:
    return side.peak_at, format_bytes(side.baseline.allocated_bytes), format_bytes(side.peak.allocated_bytes)


def common_notes(records: Iterable[Record]) -> frozenset[str]:
    """Texts that several cases repeat: they are printed once, as footnotes."""
    counts = Counter(text for record in records for text in {text for _, text, _ in _notes(record)})
    return frozenset(text for text, count in counts.items() if count > OPEN_NOTES)


def all_notes(record: Record, common: frozenset[str], notes: Footnotes) -> list[tuple[str, Cell, list[str]]]:
    """Side and text of every note, and the fields it stands for; of a common one, the footnote."""
    return [
        (side, notes.cell(None, text) if text in common else Cell(text), fields)
        for side, text, fields in _notes(record)
    ]


def _notes(record: Record) -> list[tuple[str, str, list[str]]]:
    fields: dict[tuple[str, str], list[str]] = {}
    for name, side in (("record", record), ("estimate", record.estimate), ("measurement", record.measurement)):
        for field, text in side.notes.items() if side else ():
            if field == "fits":  # printed with the answer itself
                continue
            fields.setdefault((name, text), []).append(field)
    return [(*key, names) for key, names in fields.items()]


def nvml_facts(measurement: Measurement) -> list[str]:
    """What NVML saw, each with its range over the measurement; what it had no answer for stands at the end."""
    facts, unknown = [], []
    for field, value in measurement.nvml.items():
        ends = [value[end] for end in ("min", "max")] if isinstance(value, dict) and "max" in value else [value]
        if ends[-1] is None:
            unknown.append(field)
        elif not isinstance(ends[-1], (dict, list, bool)) and field != "note":
            texts = dict.fromkeys(_nvml_text(field, end) for end in ends)
            facts.append(f"{field.removesuffix('_bytes')} {' to '.join(texts)}")
    return facts + ([f"no answer for {', '.join(unknown)}"] if unknown else [])


def _nvml_text(field: str, value: Any) -> str:
    if field.endswith("_bytes"):
        return format_bytes(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _phases(readings: Sequence[Reading]) -> list[tuple[str, Reading, str]]:
    """Name, reading and seconds of each phase in order; the warm calls stand before the watched one."""
    watched = [("watched op by op", r, _seconds([r])) for r in readings if r.phase == "attribution"]
    once = [(r.phase, r, _seconds([r])) for r in readings if r.phase not in ("warm", "attribution")]
    return [*once, *_warm([reading for reading in readings if reading.phase == "warm"]), *watched]


def _warm(warm: Sequence[Reading]) -> list[tuple[str, Reading, str]]:
    """The warm calls; one row for all where they differ in nothing but time."""
    if len(warm) > 1 and len({replace(reading, seconds=None) for reading in warm}) == 1:
        return [(f"warm 1 to {len(warm)}, alike", warm[0], _seconds(warm))]
    return [(f"warm {number}", reading, _seconds([reading])) for number, reading in enumerate(warm, 1)]


def _seconds(readings: Sequence[Reading]) -> str:
    times = [f"{seconds:.3g}" for seconds in sorted(r.seconds for r in readings if r.seconds is not None)]
    return " to ".join(dict.fromkeys([*times[:1], *times[-1:]]))


def _reading_cell(source: Measurement | Failure, reading: Reading, field: str, seconds: str, notes: Footnotes) -> Cell:
    value = attrgetter(field)(reading)
    if value is not None and not field.endswith("_bytes"):
        value = seconds if field == "seconds" else str(value)
    return notes.cell(value, _why(source, field, reading.phase))


def _why(source: Measurement | Failure, field: str, phase: str = "") -> str:
    if field == "seconds":
        return "the time of this phase means nothing"
    if isinstance(source, Failure):
        return "not said by the case, which failed"
    return find_note((f"{phase}.{field}", field), source.notes)
