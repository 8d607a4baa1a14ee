"""Estimates, measurements and the record of a case: plain data with a schema version, and its JSON.

Sizes are integer bytes. An unknown size is None, and `notes` holds its reason under the field's dotted name
(`"peak.device_bytes": "no context size known for this card"`). Absent is never 0.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from profiler.data.shown import Shown, level_rows
from profiler.data.stack import Stack
from profiler.data.units import format_bytes
from profiler.data.workload import Workload

SCHEMA = 1

Status = Literal["ok", "oom", "timeout", "crash", "invalid", "skipped"]
DeviceKind = Literal["cuda", "dry", "cpu"]
Phase = Literal["start", "model", "earlier", "inputs", "cold", "warm", "attribution"]
KINDS: dict[DeviceKind, str] = {"cuda": "measured", "dry": "dry run", "cpu": "measured (CPU)"}
TERMS = ("weights", "inputs", "outputs", "activations", "workspace", "cached", "context")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Three readings of one moment, never mixed: allocator blocks in use, segments held, what the device shows."""

    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    device_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The peak, taken apart. The first five add up to allocated, with `cached` to reserved, with `context` to device."""

    weights: int | None = None
    inputs: int | None = None
    outputs: int | None = None
    activations: int | None = None
    workspace: int | None = None
    cached: int | None = None
    context: int | None = None


@dataclass(frozen=True, kw_only=True)
class PeakAt:
    """The operation during which the peak stands: dotted module path (empty: the stage itself) and dispatcher op."""

    module: str
    op: str


@dataclass(frozen=True, kw_only=True)
class AliveTensor:
    """A storage that is alive at the peak: its size, the tensor it was born as, its term, and who made it."""

    bytes: int
    shape: tuple[int, ...]
    dtype: str
    term: str
    module: str
    op: str


@dataclass(frozen=True, kw_only=True)
class Borrowed:
    """Bytes that one op took and gave back while it ran, above what it left behind: measured, op by op."""

    bytes: int
    module: str
    op: str


@dataclass(frozen=True, kw_only=True)
class AppliedOption:
    """A memory option that was asked for, and what became of it, read back from the module."""

    applied: bool
    detail: str


@dataclass(frozen=True, kw_only=True, repr=False)
class CallEstimate(Shown):
    """The estimator's answer for any call on one stack. `baseline`: weights and inputs resident; `peak`: the cold call.

    `warm` is the peak of a second call in the same process; `safe_reserved_bytes` the highest reserved peak over the
    pasts that `allocator/histories.py` replays, for who must not run out of memory; `fits` whether the card, empty, holds
    it. `options` says what became of each memory option, `routes` counts which kernel each attention and convolution was
    priced as, `events` is the number of allocations and frees replayed. `seconds` is the cost of the estimate after imports.
    """

    stack: Stack
    baseline: Memory
    peak: Memory
    terms: Terms
    peak_at: PeakAt
    largest: tuple[AliveTensor, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    seconds: float
    warm: Memory | None = None
    safe_reserved_bytes: int | None = None
    fits: bool | None = None
    options: dict[str, AppliedOption] = field(default_factory=dict)
    routes: dict[str, int] = field(default_factory=dict)
    events: int = 0
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """What was estimated, kind, stack and peak."""
        return _headline(self, "estimated")

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Baseline and peak, and the terms of the peak."""
        return ["", "baseline", "peak"], level_rows({"baseline": self.baseline, "peak": self.peak}, self.terms, TERMS)

    @property
    def row(self) -> dict[str, Any]:
        """Baseline, peak and terms, in bytes."""
        return _row(self, "estimated")


@dataclass(frozen=True, kw_only=True, repr=False)
class Estimate(CallEstimate):
    """The estimate of a workload. `latent` is the closed form of `latent.py` for the same clip."""

    workload: Workload
    latent: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Counters of one phase: peaks within it and values at its end. `seconds` is None where time means nothing."""

    phase: Phase
    peak: Memory
    end: Memory
    requested_peak_bytes: int | None = None
    active_peak_bytes: int | None = None
    alloc_retries: int | None = None
    ooms: int | None = None
    seconds: float | None = None
    device_free_bytes: int | None = None
    process_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Measurement(Shown):
    """What one fresh process saw. `peak` is the cold call's; `warm` the later calls'; `nvml` the sampler's summary.

    `device_kind` says where the numbers come from: a real GPU, the real CUDA build with no kernel run (dry), or the CPU.
    The breakdown (`terms`, `peak_at`, `largest`, `borrowed`: the ten ops that borrowed most) comes from one more call,
    watched op by op, whose own peak is `attribution_peak_bytes`. On a GPU it is taken at the peak. On the CPU, where no
    rule prices kernels, the tensor terms are those of the peak of tensors alone, and `workspace` is what kernels add.
    """

    workload: Workload
    stack: Stack
    device_kind: DeviceKind
    baseline: Memory
    peak: Memory
    terms: Terms
    peak_at: PeakAt | None
    largest: tuple[AliveTensor, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    readings: tuple[Reading, ...]
    warm: tuple[Reading, ...] = ()
    attribution_peak_bytes: int | None = None
    borrowed: tuple[Borrowed, ...] = ()
    nvml: dict[str, Any] = field(default_factory=dict)
    options: dict[str, AppliedOption] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """Workload, kind, stack and peak."""
        return _headline(self, KINDS[self.device_kind])

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Baseline and peak, and the terms of the peak."""
        return ["", "baseline", "peak"], level_rows({"baseline": self.baseline, "peak": self.peak}, self.terms, TERMS)

    @property
    def row(self) -> dict[str, Any]:
        """Baseline, peak and terms, in bytes."""
        return _row(self, KINDS[self.device_kind])


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Part of a difference at the peak, measured minus estimated: `blocks` of one term that one op made, and `why`."""

    bytes: int
    module: str
    op: str
    term: str
    why: str
    blocks: int = 1

    @property
    def text(self) -> str:
        """Bytes, what and where, in words."""
        what = f" of {self.term}" if self.term else ""
        where = f" in {self.module or 'the stage itself'} ({self.op})" if self.op else ""
        return f"{_signed(self.bytes)}{what} {self.why}{where}"


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Measured minus estimated allocated peak, in bytes, taken apart: causes and `unexplained` add up to `difference`.

    `paired` blocks are in both streams; the others in one.
    """

    difference: int
    causes: tuple[Cause, ...]
    unexplained: int
    paired: int
    only_measured: int
    only_estimated: int

    @property
    def text(self) -> str:
        """How much, on which side, and the three largest causes."""
        if not self.difference and not self.causes and not self.unexplained:
            return "equal to the byte"
        parts = [cause.text for cause in self.causes[:3]]
        if len(self.causes) > 3:
            parts.append(f"{len(self.causes) - 3} smaller causes")
        if self.unexplained:
            parts.append(f"{_signed(self.unexplained)} unexplained")
        side = "measured" if self.difference > 0 else "estimated"
        head = f"{side} {format_bytes(abs(self.difference))} more" if self.difference else "equal peaks"
        return f"{head}: {'; '.join(parts)}"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a case has no complete measurement. `requested_bytes` is the allocation that failed, where one did."""

    phase: Phase
    message: str
    signal: str | None = None
    exit_code: int | None = None
    requested_bytes: int | None = None
    log: str | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Record(Shown):
    """One case of a run, as it stands in the store: one line of JSON.

    `key` joins records of one run and of two: the workload's key, and `@card` behind it where only an estimate was asked.
    """

    key: str
    workload: Workload
    status: Status
    started: str
    seconds: float
    stack: Stack | None = None
    estimate: Estimate | None = None
    measurement: Measurement | None = None
    failure: Failure | None = None
    explanation: Explanation | None = None
    tolerance: float | None = None
    notes: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def headline(self) -> str:
        """Key, status, and what there is beside it."""
        why = f": {self.failure.message}" if self.failure else ""
        sides = [side.headline for side in (self.measurement, self.estimate) if side]
        return "; ".join([f"{self.key}, {self.status}{why}", *(side.split(", ", 1)[1] for side in sides)])

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """The peaks of both sides, and their terms."""
        sides = {"estimated": self.estimate, "measured": self.measurement}
        rows = [
            [name, *(format_bytes(getattr(side.peak, f"{name}_bytes") if side else None) for side in sides.values())]
            for name in ("allocated", "reserved", "device")
        ]
        rows += [
            [n, *(format_bytes(getattr(side.terms, n) if side else None) for side in sides.values())] for n in TERMS
        ]
        return ["peak", *sides], rows

    @property
    def row(self) -> dict[str, Any]:
        """Key and status, and the figures of each side, in bytes."""
        row: dict[str, Any] = {"key": self.key, "status": self.status}
        for name, side in (("estimated", self.estimate), ("measured", self.measurement)):
            row |= {f"{name}_{field}": value for field, value in (side.row if side else {}).items()}
        return row


def _headline(side: CallEstimate | Measurement, kind: str) -> str:
    peak = format_bytes(side.peak.allocated_bytes)
    place = "for" if kind == "estimated" else "on"
    return f"{_key(side)}, {kind} {place} {side.stack.title}: {peak} allocated at the peak"


def _row(side: CallEstimate | Measurement, kind: str) -> dict[str, Any]:
    row: dict[str, Any] = {"key": _key(side), "kind": kind, "stack": side.stack.title}
    for name, level in (("baseline", side.baseline), ("peak", side.peak)):
        row |= {f"{name}_{field}": value for field, value in asdict(level).items()}
    return row | {f"{name}_bytes": value for name, value in asdict(side.terms).items()}


def _key(side: CallEstimate | Measurement) -> str:
    return side.workload.key if isinstance(side, (Estimate, Measurement)) else "a call"


def _signed(size: int) -> str:
    return f"{'+' if size > 0 else '-'}{format_bytes(abs(size))}"


def to_dict(record: Any) -> dict[str, Any]:
    """A record (any dataclass of this module) as JSON-ready data."""
    return asdict(record)


def from_dict(kind: type[Any], data: dict[str, Any]) -> Any:
    """Read `data` back into the dataclass `kind`, checking every type. Raises pydantic.ValidationError."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(data)
