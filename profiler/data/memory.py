"""The memory of one moment: three readings of it, the terms that it is made of, and what stands in it."""

from dataclasses import dataclass
from typing import Literal

LEVELS = ("allocated", "reserved", "device")
ALLOCATED_TERMS = ("weights", "inputs", "outputs", "activations", "workspace")  # they add up to allocated
TERMS = (*ALLOCATED_TERMS, "cached", "context")

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
        return ("buffer", "-") if self.dtype == "byte" else ("x".join(map(str, self.shape)) or "scalar", self.dtype)


@dataclass(frozen=True, kw_only=True)
class Borrowed:
    """Bytes that one op took and gave back while it ran, above what it left behind: measured, op by op."""

    bytes: int
    module: str
    op: str


@dataclass(frozen=True, kw_only=True)
class PhasePeak:
    """The highest moment of one phase of a generation. `call` is 0 for the load, then 1 and 2.

    Allocated bytes are `weights` of the components on the card, by name, what was `live` before the phase began (embeddings,
    latents), and what the phase itself made: `activations`, with what its kernels borrow.
    """

    name: str
    call: int
    peak: Memory
    weights: dict[str, int]
    live: int
    activations: int


@dataclass(frozen=True, kw_only=True)
class HostBytes:
    """What a placement takes of the host's memory: pinned by torch, pageable, and the most of both at once.

    Weights, and what was moved to the host; neither the interpreter nor what a checkpoint's file maps.
    """

    pinned: int
    pageable: int
    peak: int
