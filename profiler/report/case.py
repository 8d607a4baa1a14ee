"""What the section of one workload is made of: readings, the sides at their peaks, notes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from profiler.data.records import Failure, Measurement, Reading, Record
from profiler.data.units import format_bytes
from profiler.report.cells import Cell, Footnotes, find_note

BORROWED = 5  # ops that a section names
OPEN_NOTES = 3  # cases that may print one and the same note in full
READINGS = (
    ("peak allocated", "peak.allocated_bytes"), ("peak reserved", "peak.reserved_bytes"),
    ("peak device", "peak.device_bytes"), ("end allocated", "end.allocated_bytes"),
    ("peak requested", "requested_peak_bytes"), ("peak active", "active_peak_bytes"),
    ("device free", "device_free_bytes"), ("this process", "process_bytes"),
    ("retries", "alloc_retries"), ("OOMs", "ooms"), ("seconds", "seconds"),
)  # fmt: skip


def readings(source: Measurement | Failure, notes: Footnotes) -> list[list[Any]]:
    """Blocks of the phases from process start to the last warm call or to the failure, a row each.

    What is 0 in every phase, or unknown (by its reason), is named once and is no column.
    """
    phases = _phases(source.readings)
    columns: dict[str, list[Any]] = {}
    zero: list[str] = []
    unknown: dict[str, list[str]] = defaultdict(list)
    for head, field in READINGS:
        values = {attrgetter(field)(reading) for _, reading, _ in phases}
        if values == {0}:
            zero.append(head)
        elif values == {None}:
            unknown[_why(source, field)].append(head)
        else:
            columns[head] = [_reading_cell(source, reading, text, field, notes).data for _, reading, text in phases]
    rows = list(zip((name for name, _, _ in phases), *columns.values(), strict=True))
    lines = [f"0 in every phase: {', '.join(zero)}."] if zero else []
    lines += [f"Unknown in every phase: {', '.join(heads)} ({reason})." for reason, heads in unknown.items()]
    table = ["table", "num", "", ["Phase", *columns], rows]
    return [["h", "Cold and warm"], table, *(["p", line] for line in lines)] if rows else []


def common_notes(records: Iterable[Record]) -> frozenset[str]:
    """Texts that several cases repeat: they are printed once, as footnotes."""
    counts = Counter(text for record in records for text in {text for _, text in notes_of(record)})
    return frozenset(text for text, count in counts.items() if count > OPEN_NOTES)


def notes_of(record: Record) -> dict[tuple[str, str], list[str]]:
    """The fields that each note stands for, by the note's side and text."""
    fields: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, side in (("record", record), ("estimate", record.estimate), ("measurement", record.measurement)):
        for field, text in side.notes.items() if side else ():
            if field != "fits":  # printed with the answer itself
                fields[name, text].append(field)
    return fields


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


def _reading_cell(source: Measurement | Failure, reading: Reading, seconds: str, field: str, notes: Footnotes) -> Cell:
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
