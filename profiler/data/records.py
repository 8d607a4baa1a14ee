"""Estimates, measurements and the record of a case: plain data with a schema version, and its JSON.

Sizes are integer bytes. An unknown size is None, and `notes` holds its reason under the field's dotted name
(`"peak.device_bytes": "no context size known for this card"`). Absent is never 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from profiler.data.explanation import Explanation
from profiler.data.latent import LatentEstimate
from profiler.data.memory import (
    ALLOCATED_TERMS,
    LEVELS,
    TERMS,
    AliveTensor,
    Borrowed,
    HostBytes,
    Memory,
    PeakAt,
    PhaseLevels,
    PhasePeak,
    Terms,
    Verdict,
    highest,
    level_rows,
    phase_table,
    when,
)
from profiler.data.shown import Shown, group_notes
from profiler.data.stack import Stack
from profiler.data.units import format_bytes
from profiler.data.workload import Workload

SCHEMA = 1
Status = Literal["ok", "oom", "timeout", "crash", "invalid", "skipped"]
FAILED: tuple[Status, ...] = ("oom", "timeout", "crash", "invalid")
DeviceKind = Literal["cuda", "dry", "cpu"]
Phase = Literal["start", "model", "earlier", "inputs", "cold", "warm", "attribution"]
MEASURED: dict[DeviceKind, str] = {"cuda": "measured", "dry": "dry run", "cpu": "measured (CPU)"}


@dataclass(frozen=True, kw_only=True)
class AppliedOption:
    """A memory option that was asked for, and what became of it, read back from the module."""

    applied: bool
    detail: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Side(Shown):
    """What an estimate and a measurement have in common, and how they show it."""

    stack: Stack
    baseline: Memory
    peak: Memory
    terms: Terms

    @property
    def subject(self) -> str:
        """What was run: a workload's key, or a call of the user's own, which has none."""
        workload: Workload | None = getattr(self, "workload", None)
        return workload.key if workload else "a call"

    @property
    def kind(self) -> str:
        """Where the numbers come from, in words."""
        raise NotImplementedError

    @property
    def imbalance(self) -> str | None:
        """Where the terms do not add up to the peak, in words; None where they do, or as far as either is unknown."""
        total = 0
        for level, names in zip(LEVELS, (ALLOCATED_TERMS, TERMS[5:6], TERMS[6:]), strict=True):
            parts, peak = [getattr(self.terms, name) for name in names], getattr(self.peak, f"{level}_bytes")
            if peak is None or None in parts:
                break
            total += sum(parts)
            if total != peak:
                return f"the terms of the {self.kind} peak add up to {total:,} B, {level} is {peak:,} B"
        return None

    @property
    def role(self) -> str:
        """What the stack is to the numbers: they are `estimated for` it, `measured on` it, or a `dry run of` it."""
        return f"{self.kind} {({'estimated': 'for', 'dry run': 'of'}).get(self.kind, 'on')}"

    @property
    def origin(self) -> str:
        """Where the numbers come from: `dry run of NVIDIA H200, torch 2.13.0`."""
        return f"{self.role} {self.stack.title}"

    @property
    def headline(self) -> str:
        """Workload, kind, stack and peak, of a generation with its phase."""
        where = f", in {when(highest(phases))}" if (phases := getattr(self, "phases", ())) else ""
        return f"{self.subject}, {self.origin}: {format_bytes(self.peak.allocated_bytes)} allocated at the peak{where}"

    @property
    def place(self) -> str:
        """Where the peak is, as a line; empty where that is unknown."""
        at: PeakAt | None = getattr(self, "peak_at", None)
        return f"peak at {at.module or 'the stage itself'}: {at.op}" if at else ""

    @property
    def remarks(self) -> Sequence[str]:
        """Where the peak is, and the notes."""
        return [*filter(None, [self.place]), *(f"note: {line}" for line in group_notes(getattr(self, "notes", {})))]

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Baseline and peak, and the terms of the peak."""
        return ["", "baseline", "peak"], level_rows([self.baseline, self.peak], [self.terms])


@dataclass(frozen=True, kw_only=True, repr=False)
class CallEstimate(Side):
    """The estimator's answer for any call on one stack. `baseline`: weights and inputs resident; `peak`: the cold call.

    `warm` is the peak of a second call in the same process; `fits` whether the card holds every call of one process,
    `verdict` the same in words (`tight` fits, but just), `first_call_fits` whether it holds the first, `capacity_bytes` what
    torch can take of it. If it holds every call, the figures are those on this card; else those on
    one with room for everything. `roomy` is always the peak there, `safe_reserved_bytes` the highest reserved one there over
    the pasts that `allocator/histories.py` replays. `options` says what became of each memory option, `routes` counts which
    kernel each attention and convolution was priced as, `events` the allocations and frees; `seconds` is without imports.
    Of a placed call, such as a whole generation, `phases` are its parts in order of time, `host` what it takes of the host.
    """

    peak_at: PeakAt
    largest: tuple[AliveTensor, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    seconds: float
    warm: Memory | None = None
    roomy: Memory | None = None
    safe_reserved_bytes: int | None = None
    fits: bool | None = None
    verdict: Verdict | None = None
    capacity_bytes: int | None = None
    first_call_fits: bool | None = None
    options: dict[str, AppliedOption] = field(default_factory=dict)
    routes: dict[str, int] = field(default_factory=dict)
    events: int = 0
    phases: tuple[PhasePeak, ...] = ()
    host: HostBytes | None = None
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return "estimated"

    def most(self, level: Literal["allocated", "reserved"]) -> int:
        """The highest bytes of a first and a second call, and of a load: what has to fit."""
        moments = [self.peak, self.warm, *(phase.peak for phase in self.phases)]
        return max(getattr(moment, f"{level}_bytes") or 0 for moment in moments if moment is not None)

    @property
    def fits_line(self) -> str:
        """Whether the card holds it, as a line; empty where that is not known."""
        if self.fits is None:
            return ""
        taken = "" if self.capacity_bytes is None else f", {format_bytes(self.capacity_bytes)} of it for torch"
        room = f"{self.stack.gpu} ({format_bytes(self.stack.device_total_bytes)}{taken})"
        first = ", but the first call alone does" if self.first_call_fits else ""
        no = "" if self.fits else f"{first}; the figures are a roomy card's"
        return f"{self.verdict or ('fits' if self.fits else 'does not fit')} on {room}{no}"

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """As of any; of a generation a row a phase, in order of time."""
        return phase_table(self.phases) if self.phases else super().table

    @property
    def remarks(self) -> Sequence[str]:
        """Whether it fits, where the peak is, and the notes."""
        return [*filter(None, [self.fits_line]), *super().remarks]


@dataclass(frozen=True, kw_only=True, repr=False)
class Estimate(CallEstimate):
    """The estimate of a workload. `latent`: the closed form of `latent.py` for the same clip."""

    workload: Workload
    latent: LatentEstimate = field(default_factory=LatentEstimate)


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
class Measurement(Side):
    """What one fresh process saw. `peak` is the cold call's; `warm` the later calls'; `nvml` the sampler's summary.

    `device_kind` says where the numbers come from: a real GPU, the real CUDA build with no kernel run (dry), or the CPU.
    The breakdown (`terms`, `peak_at`, `largest`, `borrowed`: the ten ops that borrowed most) comes from one more call,
    watched op by op, whose own peak is `attribution_peak_bytes`. On a GPU it is taken at the peak. On the CPU, where no
    rule prices kernels, the tensor terms are those of the peak of tensors alone, and `workspace` is what kernels add.
    A whole generation is not watched: on a GPU it has `phases`, and `pinned_bytes` as torch took them of the host.
    """

    workload: Workload
    device_kind: DeviceKind
    peak_at: PeakAt | None
    largest: tuple[AliveTensor, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    readings: tuple[Reading, ...]
    warm: tuple[Reading, ...] = ()
    attribution_peak_bytes: int | None = None
    borrowed: tuple[Borrowed, ...] = ()
    nvml: dict[str, Any] = field(default_factory=dict)
    options: dict[str, AppliedOption] = field(default_factory=dict)
    phases: tuple[PhaseLevels, ...] = ()
    pinned_bytes: int | None = None
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return MEASURED[self.device_kind]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a case has no complete measurement. `requested_bytes` is the allocation that failed, where one did.

    `readings` are those of the phases before, and of the phase that failed as far as it came. On the CPU they are known when
    the process ends by itself: after a crash or a timeout there are none.
    """

    phase: Phase
    message: str
    signal: str | None = None
    exit_code: int | None = None
    requested_bytes: int | None = None
    log: str | None = None
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class Record(Shown):
    """One case of a run, as it stands in the store: one line of JSON.

    `key` joins records of one run and of two: the workload's key, and `@card` behind it where only an estimate was asked.
    A record of which a side's terms do not add up is `invalid`, whoever says that it is `ok`, and `failure` says why.
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

    def __post_init__(self) -> None:
        wrong = next((side.imbalance for side in (self.measurement, self.estimate) if side and side.imbalance), None)
        if self.status == "ok" and wrong:
            vars(self).update(status="invalid", failure=Failure(phase="attribution", message=wrong))  # it is frozen

    @property
    def kind(self) -> DeviceKind | Literal["estimated", "none"]:
        """What its figures are: measured ones before estimated ones; `none` where the case ended before there were any."""
        if self.measurement:
            return self.measurement.device_kind
        return "estimated" if self.estimate else "none"

    @property
    def headline(self) -> str:
        """Key, status, and what there is beside it."""
        why = f": {self.failure.message}" if self.failure else ""
        sides = [side.headline for side in (self.measurement, self.estimate) if side]
        return "; ".join([f"{self.key}, {self.status}{why}", *(side.split(", ", 1)[1] for side in sides)])

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """The peaks of both sides, and their terms."""
        sides = (self.estimate, self.measurement)
        peaks, terms = ([getattr(side, part, None) for side in sides] for part in ("peak", "terms"))
        return ["peak", "estimated", "measured"], level_rows(peaks, terms)
