"""Takes a measured peak apart, from one more call watched op by op."""

from dataclasses import dataclass

from profiler.data.events import Block, alive_at
from profiler.data.records import AliveTensor, Borrowed, PeakAt, Terms
from profiler.measurement.meter import Meter, OpPeak
from profiler.trace.observer import Observer

MOST = 10
CUDA_BLOCK = 512  # the caching allocator hands out multiples of this


@dataclass(frozen=True)
class Attribution:
    """The breakdown of a peak. `peak` is this pass's own; a peak that differs from the cold call's is said in a note."""

    peak: int
    terms: Terms
    peak_at: PeakAt
    largest: tuple[AliveTensor, ...]
    borrowed: tuple[Borrowed, ...]


def attribute(watch: Observer, meter: Meter, cold_peak: int) -> Attribution | None:
    """The breakdown of `cold_peak` bytes; None if the pass saw no op that touched the device."""
    peaks = meter.op_peaks()
    if not peaks:
        return None
    highest = max(peaks, key=lambda p: p.peak)
    on_cpu = meter.device.type == "cpu"
    at = _tensor_peak(watch) if on_cpu else highest.event
    alive = sorted(alive_at(watch.blocks, at - 1), key=lambda b: -b.bytes)
    sums = {term: sum(_size(b, on_cpu) for b in alive if b.term == term) for term in _TENSOR_TERMS}
    terms = Terms(**sums, workspace=max(0, cold_peak - sum(sums.values())))
    place = _op_before(peaks, at) if on_cpu else highest
    module, op = watch.ops[place.op]
    return Attribution(
        peak=highest.peak,
        terms=terms,
        peak_at=PeakAt(module=module, op=op),
        largest=tuple(_describe(watch, block, on_cpu) for block in alive[:MOST]),
        borrowed=_most_borrowed(watch, peaks),
    )


_TENSOR_TERMS = ("weights", "inputs", "outputs", "activations")


def _tensor_peak(watch: Observer) -> int:
    """The position in the event stream just after the tensors' own highest moment."""
    total = highest = position = 0
    for index, number in enumerate(watch.events):
        total += watch.blocks[number].bytes if number >= 0 else -watch.blocks[~number].bytes
        if total > highest:
            highest, position = total, index + 1
    return position


def _op_before(peaks: list[OpPeak], event: int) -> OpPeak:
    """The op during which the event at `event - 1` happened: the last that began before it."""
    return max((p for p in peaks if p.event < event), key=lambda p: p.event, default=peaks[0])


def _most_borrowed(watch: Observer, peaks: list[OpPeak]) -> tuple[Borrowed, ...]:
    worst = sorted(peaks, key=lambda p: -p.borrowed)[:MOST]
    return tuple(
        Borrowed(bytes=p.borrowed, module=watch.ops[p.op][0], op=watch.ops[p.op][1]) for p in worst if p.borrowed
    )


def _describe(watch: Observer, block: Block, on_cpu: bool) -> AliveTensor:
    module, op = watch.ops[block.op] if block.phase == "cold" else ("", "resident")
    return AliveTensor(
        bytes=_size(block, on_cpu), shape=block.shape, dtype=block.dtype, term=block.term, module=module, op=op
    )


def _size(block: Block, on_cpu: bool) -> int:
    return block.bytes if on_cpu else -(-block.bytes // CUDA_BLOCK) * CUDA_BLOCK
