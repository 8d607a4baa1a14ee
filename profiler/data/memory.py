"""The memory of one moment: three readings of it, the terms that it is made of, and what stands in it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from profiler.data.spans import Span
from profiler.data.units import by, format_bytes

LEVELS = ("allocated", "reserved", "device")
ALLOCATED_TERMS = ("weights", "inputs", "outputs", "activations", "workspace")  # they add up to allocated
TERMS = (*ALLOCATED_TERMS, "cached", "context")

SECOND = 2  # of the calls of a generation
Verdict = Literal["fits", "tight", "does not fit"]  # of a card: for every call; but just; not


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


def level_rows(levels: Sequence[Memory | None], terms: Sequence[Terms | None]) -> list[list[str]]:
    """A row a level and a row a term, with a cell for each column; terms fill the last columns, as many as there are."""
    blank = [""] * (len(levels) - len(terms))
    rows = [[name, *(format_bytes(getattr(level, f"{name}_bytes", None)) for level in levels)] for name in LEVELS]
    return rows + [[name, *blank, *(format_bytes(getattr(part, name, None)) for part in terms)] for name in TERMS]


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

    @property
    def form(self) -> tuple[str, str]:
        """Shape and dtype for a reader: `1x3x64x64`, `float32`. A buffer that a kernel borrowed is bytes alone."""
        return ("buffer", "-") if self.dtype == "byte" else (by(self.shape) or "scalar", self.dtype)


@dataclass(frozen=True, kw_only=True)
class Borrowed:
    """Bytes that one op took and gave back while it ran, above what it left behind: measured, op by op."""

    bytes: int
    module: str
    op: str


@dataclass(frozen=True, kw_only=True)
class PhaseLevels:
    """The highest moment of one phase of a generation. `call` is 0 for the load, then 1 and 2."""

    name: str
    call: int
    peak: Memory


Phase = TypeVar("Phase", bound=PhaseLevels)


@dataclass(frozen=True, kw_only=True)
class PhasePeak(PhaseLevels):
    """The highest moment of a phase, taken apart.

    Allocated bytes are `weights` of the components on the card, by name, what was `live` before the phase began (embeddings,
    latents), and what the phase itself made: `activations`, with what its kernels borrow.
    """

    weights: dict[str, int]
    live: int
    activations: int

    @property
    def largest_first(self) -> list[tuple[str, int]]:
        """The components on the card with their weights."""
        return sorted(self.weights.items(), key=lambda item: -item[1])


def when(phase: PhaseLevels | Span) -> str:
    """The name of a phase, and of which call it is where that is not the first."""
    return f"{phase.name} of the second call" if phase.call == SECOND else phase.name


def highest(phases: Iterable[Phase]) -> Phase:
    """The phase where the most is allocated."""
    return max(phases, key=lambda phase: phase.peak.allocated_bytes or 0)


def is_repeated(phase: PhasePeak, phases: Iterable[PhasePeak]) -> bool:
    """Whether a phase of the second call is what it was in the first."""
    return phase.call == SECOND and any(
        other.call < SECOND and vars(other) == vars(phase) | {"call": other.call} for other in phases
    )


def phase_table(phases: Sequence[PhasePeak]) -> tuple[list[str], list[list[str]]]:
    """Heads, and a row a phase that is no repetition: a line a component, or that all stand as in the row before."""
    rows: list[list[str]] = []
    before: dict[str, int] = {}
    for phase in phases:
        if is_repeated(phase, phases):
            continue
        weights = "\n".join(f"{name} {format_bytes(size)}" for name, size in phase.largest_first)
        same = len(phase.weights) > 1 and phase.weights == before
        before = phase.weights
        sizes = (phase.live, phase.activations, phase.peak.allocated_bytes, phase.peak.reserved_bytes)
        name = f"{phase.name}, again" if phase.call == SECOND else phase.name
        rows.append([name, "as before" if same else weights or "-", *map(format_bytes, sizes)])
    return ["phase", "on the card", "live", "activations", "allocated", "reserved"], rows


@dataclass(frozen=True, kw_only=True)
class HostBytes:
    """What a placement takes of the host's memory: pinned by torch, pageable, and the most of both at once.

    Weights, and what was moved to the host; neither the interpreter nor what a checkpoint's file maps.
    """

    pinned: int
    pageable: int
    peak: int
