"""The answer: a stream of allocations replayed, its peak read and taken apart. Knows nothing of torch.

`baseline` is the moment when weights and inputs are resident; `peak` is the highest of the first (cold) call.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from profiler.allocator.caching import CachingAllocator, OutOfMemory
from profiler.allocator.histories import allocator_of, safe_reserved_bytes
from profiler.allocator.replay import Replay
from profiler.data.events import Events
from profiler.data.latent import estimate_video_latent_memory
from profiler.data.records import AppliedOption, Estimate, Memory, Terms
from profiler.data.stack import Stack
from profiler.data.workload import Workload
from profiler.models.spec import ModelSpec, Size


@dataclass(frozen=True)
class Traced:
    """What a trace found: its stream, the kernels that calls were priced as, options as applied, and notes."""

    events: Events
    routes: Mapping[str, int]
    options: dict[str, AppliedOption]
    output_shapes: tuple[tuple[int, ...], ...]
    notes: dict[str, str] = field(default_factory=dict)


def answer(
    traced: Traced, workload: Workload, spec: ModelSpec, stack: Stack, *, context_bytes: int | None, started: float
) -> Estimate:
    """The estimate that a trace of `workload` gives; `started` is when its making began (`time.perf_counter`)."""
    events = traced.events
    replay = Replay(events, allocator_of(stack))
    memory, notes = _memories(replay, stack, context_bytes)
    notes |= traced.notes
    terms, peak_at, largest = replay.terms(), replay.peak_at(), replay.largest()
    warm = replay.again()
    if stack.device == "cpu":
        terms["workspace"] = None
        notes["terms.workspace"] = "no rules for CPU kernels: measured op by op instead"
    else:
        notes |= _workspace_note(traced.routes)
    if traced.routes.get("attention sage") or traced.routes.get("attention xformers"):
        notes["peak.allocated_bytes"] = (
            f"at least: what {workload.options.attention}'s kernels borrow is not known; their outputs are counted"
        )
    notes |= {f"options.{name}": f"NOT applied: {o.detail}" for name, o in traced.options.items() if not o.applied}
    baseline, peak = memory
    cached = None
    if peak.reserved_bytes is None or peak.allocated_bytes is None:
        notes["terms.cached"] = notes["peak.reserved_bytes"]
    else:
        cached = peak.reserved_bytes - peak.allocated_bytes
    return Estimate(
        workload=workload,
        stack=stack,
        baseline=baseline,
        peak=peak,
        terms=Terms(**terms, cached=cached, context=context_bytes),
        peak_at=peak_at,
        warm=warm,
        safe_reserved_bytes=None if stack.device == "cpu" else safe_reserved_bytes(events, stack, peak, warm),
        fits=_fits(events, stack, peak, context_bytes, notes),
        largest=largest,
        output_shapes=traced.output_shapes,
        seconds=time.perf_counter() - started,
        latent=closed_form(workload, spec),
        options=traced.options,
        routes=dict(traced.routes),
        events=len(events.events),
        notes=notes,
    )


def _memories(replay: Replay, stack: Stack, context: int | None) -> tuple[tuple[Memory, Memory], dict[str, str]]:
    """Baseline and peak with device bytes where they can be known, and the reasons where they cannot."""
    notes: dict[str, str] = {}
    peak = replay.peak
    if stack.device == "cpu":
        reason = "the CPU allocator caches nothing"
        device = "a process's resident memory on the CPU also holds the interpreter and its libraries: not modelled"
        for moment in ("baseline", "peak"):
            notes[f"{moment}.reserved_bytes"], notes[f"{moment}.device_bytes"] = reason, device
        notes["terms.context"] = device
        return (replay.baseline, peak), notes
    if context is None:
        reason = (
            "the CUDA context of this card and build was not measured; device bytes are at least the reserved bytes"
        )
        notes |= {"baseline.device_bytes": reason, "peak.device_bytes": reason, "terms.context": reason}
        return (replay.baseline, peak), notes
    return (_with_device(replay.baseline, context), _with_device(peak, context)), notes


def _with_device(memory: Memory, context: int) -> Memory:
    reserved = memory.reserved_bytes
    return Memory(
        allocated_bytes=memory.allocated_bytes,
        reserved_bytes=reserved,
        device_bytes=None if reserved is None else reserved + context,
    )


def _workspace_note(routes: Mapping[str, int]) -> dict[str, str]:
    """Says how many convolutions had no plan of cuDNN's own."""
    approximate = routes.get("convolution cudnn, closed form", 0)
    if not approximate:
        return {}
    total = approximate + routes.get("convolution cudnn, planned", 0)
    text = f"{approximate} of {total} convolutions priced by a closed form, which is approximate"
    return {"terms.workspace": f"{text}; with `pip install latentmeter[planner]` cuDNN itself is asked"}


def _fits(events: Events, stack: Stack, peak: Memory, context: int | None, notes: dict[str, str]) -> bool | None:
    """Whether the allocator gets through on a card of this size that holds nothing else; unknown without its size."""
    if stack.device == "cpu" or stack.device_total_bytes is None:
        notes["fits"] = "the memory of this device is not known"
        return None
    if context is None:
        notes["fits"] = (
            "without the CUDA context, whose size on this card is not known: a card that is full to the brim may not fit"
        )
    capacity = stack.device_total_bytes - (context or 0)
    if peak.reserved_bytes is not None and peak.reserved_bytes <= capacity:
        return True
    allocator = allocator_of(stack, capacity)
    assert isinstance(allocator, CachingAllocator)
    try:
        squeezed = Replay(events, allocator, squeeze=True).squeezed
    except OutOfMemory as error:
        notes["fits"] = f"no room for {error.requested:,} B with {allocator.allocated:,} B allocated"
        return False
    if squeezed:
        notes["fits"] = f"only with smaller workspaces than planned in {squeezed} convolutions, which may be slower"
    elif allocator.retries:
        notes["fits"] = f"only by giving cached segments back {allocator.retries} times, which stalls the device"
    return True


def closed_form(workload: Workload, spec: ModelSpec) -> dict[str, Any]:
    """The closed form for the same clip: what the latent alone takes, and the tokens of one denoiser forward."""
    contract = spec.latent
    closed = estimate_video_latent_memory(
        contract.latent_frames(workload.frames) * contract.temporal_compression,  # a clip cut into windows has more
        workload.height,
        workload.width,
        contract.channels,
        contract.spatial_compression,
        contract.temporal_compression,
        batch_size=workload.batch,
        dtype=workload.dtype,
    )
    size = Size(frames=workload.frames, height=workload.height, width=workload.width)
    return dict(closed) | {"tokens_per_video": spec.tokens(size)}
