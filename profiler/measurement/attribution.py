"""Takes a measured peak apart, from one more call watched op by op."""

from dataclasses import replace

from profiler.allocator.settings import MIN_BLOCK
from profiler.data.events import Block, alive_at, described
from profiler.data.memory import ALLOCATED_TERMS, Borrowed, PeakAt
from profiler.data.records import Measurement
from profiler.data.units import round_up
from profiler.measurement.meter import Meter, OpPeak
from profiler.trace.observer import Observer

MOST = 10


def attribute(seen: Measurement, watch: Observer, meter: Meter) -> Measurement:
    """What was `seen`, with the breakdown of its peak; with a note instead if the pass saw no op on the device.

    A peak of the pass's own that differs from the cold call's is said in a note. On CUDA the resident terms are the phases'
    own counters: blocks as handed out, with the tails that stay unused.
    """
    peaks = meter.op_peaks()
    if not peaks:
        return replace(seen, notes=seen.notes | {"terms": "the watched call saw no operation on the device"})
    highest = max(peaks, key=lambda p: p.peak)
    on_cpu = meter.device.type == "cpu"
    at = _tensor_peak(watch) if on_cpu else highest.event
    alive = sorted(alive_at(watch.blocks, at - 1), key=lambda b: -b.bytes)
    sums = {term: sum(_size(b, on_cpu) for b in alive if b.term == term) for term in ALLOCATED_TERMS[:4]}
    if not on_cpu:
        sums["weights"] = next(r.end.allocated_bytes or 0 for r in seen.readings if r.phase == "model")
        sums["inputs"] = (seen.baseline.allocated_bytes or 0) - sums["weights"]
    workspace = max(0, (seen.peak.allocated_bytes or 0) - sum(sums.values()))
    place = highest
    if on_cpu:  # the last op that began before that event
        place = max((p for p in peaks if p.event < at), key=lambda p: p.event, default=peaks[0])
    module, op = watch.ops[place.op]
    return replace(
        seen,
        terms=replace(seen.terms, **sums, workspace=workspace),
        peak_at=PeakAt(module=module, op=op),
        largest=tuple(described(b, _size(b, on_cpu), *_made_by(watch, b)) for b in alive[:MOST]),
        attribution_peak_bytes=highest.peak,
        borrowed=_most_borrowed(watch, peaks),
        notes=seen.notes | _difference(highest.peak, seen.peak.allocated_bytes),
    )


def _difference(watched: int, cold: int | None) -> dict[str, str]:
    if watched == cold:
        return {}
    text = f"the watched call peaked at {watched:,} B, the cold call at {cold:,} B; the difference is in this term"
    return {"terms.workspace": text}


def _tensor_peak(watch: Observer) -> int:
    """The position in the event stream just after the tensors' own highest moment."""
    total = highest = position = 0
    for index, number in enumerate(watch.events):
        total += watch.blocks[number].bytes if number >= 0 else -watch.blocks[~number].bytes
        if total > highest:
            highest, position = total, index + 1
    return position


def _most_borrowed(watch: Observer, peaks: list[OpPeak]) -> tuple[Borrowed, ...]:
    worst = [(p.borrowed, *watch.ops[p.op]) for p in sorted(peaks, key=lambda p: -p.borrowed)[:MOST] if p.borrowed]
    return tuple(Borrowed(bytes=size, module=module, op=op) for size, module, op in worst)


def _made_by(watch: Observer, block: Block) -> tuple[str, str]:
    return watch.ops[block.op] if block.phase == "cold" else ("", "resident")


def _size(block: Block, on_cpu: bool) -> int:
    return block.bytes if on_cpu else round_up(block.bytes, MIN_BLOCK)
