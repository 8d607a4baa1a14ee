"""Estimate against measurement: three pairs of numbers, the terms, and a verdict with its tolerance.

The verdict is about allocated bytes, the quantity that decides whether a workload fits; reserved and device stand beside
it with errors of their own. On the CPU the estimator knows tensors only: there the workspace that was measured in the
same run is added to both sides, so that the pair compares tensors and the borrowed bytes are still shown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from profiler.data.memory import LEVELS, TERMS
from profiler.data.records import FAILED, Estimate, Measurement, Record
from profiler.data.shown import Shown, frame_of
from profiler.data.stack import differing_fields
from profiler.data.units import format_bytes, format_percent, less

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["exact", "within", "under", "over", "not comparable"]
DEFAULT_TOLERANCE = 0.01

# Stack fields that do not change what a kernel or the allocator takes.
HARMLESS_FIELDS = frozenset({"python", "driver"})


@dataclass(frozen=True)
class Pair:
    """One quantity from both sides, in bytes."""

    estimated: int | None
    measured: int | None

    @property
    def difference(self) -> int | None:
        """Estimated minus measured; None if either is unknown."""
        return less(self.estimated, self.measured)

    @property
    def error(self) -> float | None:
        """The difference as a share of the measured value; None if unknown or if nothing was measured."""
        return self.difference / self.measured if self.difference is not None and self.measured else None


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Shown):
    """One case with its pairs. `reason` says why a row is not comparable, or what the reader must know beside it."""

    record: Record
    verdict: Verdict
    reason: str
    tolerance: float
    allocated: Pair
    reserved: Pair
    device: Pair
    terms: dict[str, Pair]

    @property
    def headline(self) -> str:
        """Key, verdict and its reason, and what the measured numbers are."""
        measurement = self.record.measurement
        kind = measurement.kind if measurement else "nothing measured"
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.record.key}, {kind}, {self.verdict} (tolerance {self.tolerance * 100:g} %){reason}"

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Each quantity from both sides."""
        pairs = {"allocated": self.allocated, "reserved": self.reserved, "device": self.device} | self.terms
        return ["at the peak", "estimated", "measured", "error"], [
            [name, format_bytes(pair.estimated), format_bytes(pair.measured), format_percent(pair.error)]
            for name, pair in pairs.items()
        ]

    @property
    def row(self) -> dict[str, object]:
        """The columns of `to_frame`."""
        record, failure, explanation = self.record, self.record.failure, self.record.explanation
        work = record.workload
        source = record.measurement or record.estimate
        at = source.peak_at if source else None
        totals = (self.allocated, self.reserved, self.device)
        values = [
            *(record.key, work.model, work.stage, work.frames, work.height, work.width, work.batch, work.dtype),
            *(work.options_key, record.status, record.measurement.device_kind if record.measurement else "estimated"),
            *(source.stack.title if source else None, self.verdict, self.reason),
            record.estimate.latent.get("memory_bytes") if record.estimate else None,
            *((at.module, at.op) if at else (None, None)),
            explanation.unexplained if explanation else None,
            *((failure.phase, failure.message, failure.requested_bytes) if failure else (None, None, None)),
            *(value for pair in totals for value in (pair.estimated, pair.measured, pair.error)),
            *(value for pair in self.terms.values() for value in (pair.estimated, pair.measured)),
        ]
        return dict(zip(COLUMNS, values, strict=True))


def compare(record: Record, tolerance: float | None = None) -> Comparison:
    """Lay the estimate of `record` beside its measurement. `tolerance` is a share (0.01: one percent)."""
    tolerance = tolerance if tolerance is not None else record.tolerance or DEFAULT_TOLERANCE
    estimate, measurement = record.estimate, record.measurement
    borrowed = None
    if estimate and measurement and estimate.stack.device == "cpu" and estimate.terms.workspace is None:
        borrowed = measurement.terms.workspace  # by CPU kernels, for which the estimator has no rules
    allocated = _pair("peak", "allocated_bytes", estimate, measurement)
    if borrowed is not None and allocated.estimated is not None:
        allocated = Pair(estimated=allocated.estimated + borrowed, measured=allocated.measured)
    verdict, reason = _verdict(record, allocated, tolerance)
    if borrowed:
        more = f"CPU kernels borrowed {format_bytes(borrowed)} more than tensors (measured, added to both sides)"
        reason = f"{reason}; {more}".lstrip("; ")
    if record.explanation and allocated.difference:
        reason = f"{record.explanation.summary}; {reason}".rstrip("; ")
    return Comparison(
        record=record,
        verdict=verdict,
        reason=reason,
        tolerance=tolerance,
        allocated=allocated,
        reserved=_pair("peak", "reserved_bytes", estimate, measurement),
        device=_pair("peak", "device_bytes", estimate, measurement),
        terms={name: _pair("terms", name, estimate, measurement) for name in TERMS},
    )


def compare_all(records: Iterable[Record], tolerance: float | None = None) -> list[Comparison]:
    """`compare` over many records, in order; none is dropped."""
    return [compare(record, tolerance) for record in records]


def within_tolerance(comparison: Comparison) -> bool:
    """Whether the row passes: a failed case does not, nor one that could not be compared; an estimate-only row does."""
    if comparison.record.status in FAILED:
        return False
    return comparison.verdict in ("exact", "within") or comparison.record.measurement is None


def figures(side: Estimate | Measurement | None) -> dict[str, int | None]:
    """The sizes by which a side is judged, in bytes, by the name of their quantity; empty for no side."""
    if side is None:
        return {}
    warm = side.warm if isinstance(side, Estimate) else next((call.peak for call in side.warm[-1:]), None)
    return {
        "allocated": side.peak.allocated_bytes,
        "reserved": side.peak.reserved_bytes,
        "reserved_growth": less(side.peak.reserved_bytes, side.baseline.reserved_bytes),
        "weights": side.terms.weights,
        "warm_allocated": warm.allocated_bytes if warm else None,
        "warm_reserved": warm.reserved_bytes if warm else None,
    }


SIDES = ("estimated_bytes", "measured_bytes", "error")
COLUMNS = (
    *("key", "model", "stage", "frames", "height", "width", "batch", "dtype", "options", "status", "device_kind"),
    *("stack", "verdict", "reason", "latent_bytes", "peak_at_module", "peak_at_op", "unexplained_bytes"),
    *("failure_phase", "failure_message", "failure_requested_bytes"),
    *(f"{name}_{side}" for name in LEVELS for side in SIDES),
    *(f"{name}_{side}" for name in TERMS for side in SIDES[:2]),
)


def to_frame(comparisons: Iterable[Comparison]) -> "pd.DataFrame":
    """One row a case, sizes in bytes, unknown as NA: what the CSV holds. Without a case it has its columns."""
    return frame_of([comparison.row for comparison in comparisons], COLUMNS).infer_objects()


def _pair(part: str, name: str, *sides: Estimate | Measurement | None) -> Pair:
    """The size `name` of the sides' `part` (`peak` or `terms`), of the estimate and of the measurement."""
    return Pair(*(getattr(getattr(side, part), name) if side else None for side in sides))


def _verdict(record: Record, allocated: Pair, tolerance: float) -> tuple[Verdict, str]:
    estimate, measurement = record.estimate, record.measurement
    if record.status != "ok":
        cause = record.failure.message if record.failure else "no detail recorded"
        return "not comparable", f"{record.status}: {cause}"
    if measurement is None:
        return "not comparable", "estimate only: nothing was measured"
    if estimate is None:
        return "not comparable", record.notes.get("estimate", "no estimate")
    differing = [name for name in differing_fields(estimate.stack, measurement.stack) if name not in HARMLESS_FIELDS]
    if differing:
        return "not comparable", f"the estimate is for another stack: {', '.join(differing)} differ"
    if any(reading.phase == "cold" and reading.ooms for reading in measurement.readings):
        return (
            "not comparable",
            "the card was full: convolutions took other plans than cuDNN's first, of unknown workspace",
        )
    if allocated.difference is None:
        unknown = measurement if allocated.measured is None else estimate
        return "not comparable", unknown.notes.get("peak.allocated_bytes", "allocated bytes unknown")
    if allocated.difference == 0:
        return "exact", ""
    if allocated.error is None:
        return "not comparable", "the measurement saw 0 B allocated"
    if abs(allocated.error) <= tolerance:
        return "within", ""
    return ("under" if allocated.error < 0 else "over"), ""
