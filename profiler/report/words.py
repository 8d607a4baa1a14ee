"""Sentences made from data, without markup: the answer, what a reader must not miss, the largest peaks, names and sizes.

Every case lands in exactly one part of the answer, so that none is left out in silence.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from profiler.comparison.case import Comparison
from profiler.data.records import FAILED, Record
from profiler.data.units import format_bytes, format_percent
from profiler.data.workload import Workload

QUESTION = "How much memory does each workload need, and can the estimate be trusted?"
KINDS = {  # of a record
    "cuda": "measured on a GPU",
    "dry": "in a dry run: the real CUDA build and its allocator, no kernel run",
    "cpu": "measured on the CPU",
    "estimated": "estimated, nothing measured",
    "none": "no numbers: the case ended before there were any",
}
PLACES = {"cuda": "on a GPU", "dry": "in dry CUDA", "cpu": "on the CPU"}


def write_answer(comparisons: Sequence[Comparison]) -> str:
    """How many estimates hold, the worst one, and how many cases have no verdict and why."""
    if not comparisons:
        return "Nothing was run, so there is nothing to answer from."
    judged = [row for row in comparisons if is_judged(row)]
    parts = [_count_close(place, [row for row in judged if row.record.kind == place]) for place in PLACES]
    parts += _count_without_verdict([row for row in comparisons if not is_judged(row)])
    return "; ".join(part for part in parts if part) + "."


def write_cautions(rows: Sequence[Comparison]) -> list[str]:
    """What a reader must know about the kind of the numbers, in plain sentences."""
    present = {row.record.kind for row in rows}
    lines = []
    if "cpu" in present and "cuda" in present:
        lines.append("Rows measured on the CPU are CPU numbers: they say nothing about a GPU.")
    elif "cpu" in present:
        lines.append("These are CPU numbers. No GPU was measured.")
    if "dry" in present:
        lines.append("Dry run: allocator and dispatcher real, kernels not executed. No GPU was measured there.")
    if present and present <= {"estimated", "none"}:
        lines.append("Every number here is estimated. Nothing was measured.")
    if any(added_workspace(row) for row in rows):
        lines.append(
            "On the CPU the estimate covers tensors only. What CPU kernels borrowed beyond tensors was measured and is "
            "added to both sides, so an error there is an error about tensors."
        )
    return lines


def write_largest_peaks(rows: Sequence[Comparison]) -> list[str]:
    """The largest allocated peak of each kind of number."""
    lines = []
    for kind, words in KINDS.items():
        peaks = [(size, row) for row in rows if row.record.kind == kind and (size := peak_of(row)) is not None]
        if peaks:
            size, row = max(peaks, key=lambda pair: pair[0])
            where = f"{name_of(row)}, {format_clip(row.record.workload)}"
            lines.append(f"Largest peak {words}: {format_bytes(size)} allocated by {where}")
    return lines


def write_explained(comparisons: Iterable[Comparison]) -> list[str]:
    """How many of the differences are explained event by event, and the bytes that are not; no line without events."""
    found = [row.record.explanation for row in comparisons if row.record.explanation]
    if not found:
        return []
    left = sum(abs(level.unexplained) for item in found for level in item.levels.values())
    rest = f"{left:,} B of their differences are not" if left else "every byte of their differences is"
    return [f"Both sides' events of {plural(len(found), 'case')} were laid side by side: {rest} explained"]


def measured_word(comparisons: Iterable[Comparison]) -> str:
    """What the side beside the estimates is to be called: `measured`, `dry run`, or both where both are there."""
    dry = [row.record.kind == "dry" for row in comparisons if row.record.measurement]
    return ("dry run" if all(dry) else "measured or dry run") if any(dry) else "measured"


def write_age(rows: Iterable[Comparison], version: str | None, created: str | None) -> tuple[list[str], list[str]]:
    """By which version and when the estimates were made: as a headline, or as a caution on a page of a later day."""
    days = sorted(row.record.started[:10] for row in rows if row.record.estimate)
    if not days or not version:
        return [], []
    text = f"The estimates were made by latentmeter {version}, {' to '.join(dict.fromkeys([days[0], days[-1]]))}"
    if not created or created[:10] <= days[-1]:
        return [text], []
    later = (
        f"{text}; this page is of {created[:10]} and shows them as they were. The command `latentmeter accuracy` makes them "
        "anew: today's figures for the references that are shipped stand in results/accuracy."
    )
    return [], [later]


def is_judged(comparison: Comparison) -> bool:
    """Whether the estimate was laid beside the measurement and got a verdict."""
    return comparison.verdict != "not comparable"


def peak_of(comparison: Comparison) -> int | None:
    """Allocated bytes at the peak: measured where that is known, else estimated."""
    pair = comparison.allocated
    return pair.measured if pair.measured is not None else pair.estimated


def added_workspace(comparison: Comparison) -> int:
    """Measured workspace, in bytes, that the comparison added to an estimate of tensors only; 0 where it did not."""
    estimate = comparison.record.estimate
    if estimate is None or estimate.peak.allocated_bytes is None or comparison.allocated.estimated is None:
        return 0
    return comparison.allocated.estimated - estimate.peak.allocated_bytes


def name_of(comparison: Comparison) -> str:
    """The workload in two words: `sd1.5 decode`."""
    return f"{comparison.record.workload.model} {comparison.record.workload.stage}"


def format_clip(workload: Workload) -> str:
    """Frames, height and width; the last two in pixels."""
    return f"{workload.frames}\u00d7{workload.height}\u00d7{workload.width}"


def card_of(record: Record) -> str:
    """What the numbers of a record are for: the name of a GPU, or the CPU."""
    source = record.measurement or record.estimate
    stack = source.stack if source else record.stack
    if stack is None:
        return "unknown device"
    return stack.gpu or ("CPU" if stack.device == "cpu" else "unknown GPU")


def plural(count: int, word: str) -> str:
    """`1 workload`, `2 workloads`."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def format_tolerances(rows: Iterable[Comparison]) -> str:
    """The tolerance of these rows: one percentage, or the span of several."""
    limits = [f"{limit * 100:g} %" for limit in sorted({row.tolerance for row in rows})]
    return limits[0] if len(limits) == 1 else f"{limits[0]} to {limits[-1]}"


def _count_close(place: str, rows: list[Comparison]) -> str:
    if not rows:
        return ""
    good = sum(row.verdict in ("exact", "within") for row in rows)
    text = f"{good} of {plural(len(rows), 'workload')} within {format_tolerances(rows)} {PLACES[place]}"
    worst = max(rows, key=lambda row: abs(row.allocated.error or 0))
    if not worst.allocated.difference:
        return f"{text}, exact to the byte"
    return f"{text}, worst {format_percent(worst.allocated.error)}: {name_of(worst)}"


def _count_too_large(rows: Iterable[Comparison]) -> int:
    return sum(row.record.estimate is not None and row.record.estimate.fits is False for row in rows)


def _count_without_verdict(rows: list[Comparison]) -> list[str]:
    failed = Counter(row.record.status for row in rows if row.record.status in FAILED)
    skipped = sum(row.record.status == "skipped" for row in rows)
    fine = [row for row in rows if row.record.status == "ok"]
    estimated = [row for row in fine if row.record.kind == "estimated"]
    parts = []
    if failed:
        foreseen = _count_too_large(row for row in rows if row.record.status == "oom")
        what = ", ".join(f"{count} {status}" for status, count in failed.items())
        parts.append(f"{failed.total()} failed ({what})" + f", {foreseen} estimated not to fit" * bool(foreseen))
    if skipped:
        parts.append(f"{skipped} skipped")
    if len(fine) > len(estimated):
        parts.append(f"{len(fine) - len(estimated)} not comparable")
    if estimated:
        cards = ", ".join(sorted({card_of(row.record) for row in estimated}))
        fits = f", {full} of them more than fits" if (full := _count_too_large(estimated)) else ""
        parts.append(f"{plural(len(estimated), 'workload')} estimated for {cards}, nothing measured{fits}")
    return parts
