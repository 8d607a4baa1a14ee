"""The estimate: trace the stage on tensors without data, replay its allocations, read the peak.

`baseline` is the moment when weights and inputs are resident; `peak` is the highest of the first (cold) call.
"""

import gc
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from profiler.errors import MODEL_FAILURES, LatentmeterError, ModelError, UserError
from profiler.estimate.allocator import CachingAllocator, OutOfMemory
from profiler.estimate.history import allocator_of, safe_reserved_bytes
from profiler.estimate.replay import Replay
from profiler.estimate.trace import Trace
from profiler.latent import estimate_video_latent_memory
from profiler.models.build import component_class
from profiler.models.spec import ModelSpec, Size
from profiler.records import Estimate, Memory, Terms
from profiler.stack import Stack
from profiler.stages import Stage
from profiler.workload import Workload

META, CPU = torch.device("meta"), torch.device("cpu")


def estimate(workload: Workload, spec: ModelSpec, stack: Stack, *, context_bytes: int | None = None) -> Estimate:
    """Estimate `workload` of `spec` on `stack`. `context_bytes` is what CUDA takes outside the allocator, if known.

    Raises UserError for a size or option that the model does not allow, ModelError where the model cannot be traced.
    """
    return estimate_with_events(workload, spec, stack, context_bytes=context_bytes)[0]


def estimate_with_events(
    workload: Workload, spec: ModelSpec, stack: Stack, *, context_bytes: int | None = None
) -> tuple[Estimate, Trace]:
    """The same, and the events that it was read from."""
    if workload.options.autocast is not None and stack.device == "cpu":
        raise UserError("autocast: only CUDA's casts are modelled; the CPU casts other operations")
    component_class(spec.component(workload.stage).class_name)  # its import is no part of the estimate's cost
    started = time.perf_counter()
    stage, trace, output_shapes = trace_stage(workload, spec, stack)
    replay = Replay(trace, allocator_of(stack))
    memory, notes = _memories(replay, stack, context_bytes)
    terms, peak_at, largest = replay.terms(), replay.peak_at(), replay.largest()
    warm = replay.again()
    if stack.device == "cpu":
        terms["workspace"] = None
        notes["terms.workspace"] = "no rules for CPU kernels: measured op by op instead"
    else:
        notes |= _workspace_note(trace)
    if trace.routes["attention sage"] or trace.routes["attention xformers"]:
        notes["peak.allocated_bytes"] = (
            f"at least: what {workload.options.attention}'s kernels borrow is not known; their outputs are counted"
        )
    notes |= _assumed(trace)
    notes |= {f"options.{name}": f"NOT applied: {o.detail}" for name, o in stage.options.items() if not o.applied}
    baseline, peak = memory
    cached = None
    if peak.reserved_bytes is None or peak.allocated_bytes is None:
        notes["terms.cached"] = notes["peak.reserved_bytes"]
    else:
        cached = peak.reserved_bytes - peak.allocated_bytes
    found = Estimate(
        workload=workload,
        stack=stack,
        baseline=baseline,
        peak=peak,
        terms=Terms(**terms, cached=cached, context=context_bytes),
        peak_at=peak_at,
        warm=warm,
        safe_reserved_bytes=None if stack.device == "cpu" else safe_reserved_bytes(trace, stack, peak, warm),
        fits=_fits(trace, stack, peak, context_bytes, notes),
        largest=largest,
        output_shapes=output_shapes,
        seconds=time.perf_counter() - started,
        latent=_latent(workload, spec),
        options=stage.options,
        routes=dict(trace.routes),
        events=len(trace.events),
        notes=notes,
    )
    return found, trace


def trace_stage(
    workload: Workload, spec: ModelSpec, stack: Stack, kind: type[Trace] = Trace
) -> tuple[Stage, Trace, tuple[tuple[int, ...], ...]]:
    """Run the stage on `meta` tensors; where a class cannot run on them, on fake ones, which are slower.

    `kind` is the class that watches. The shapes are the outputs'. Raises UserError, ModelError.
    """
    try:
        return _run(Stage(workload, spec), kind(stack), META, nullcontext())
    except LatentmeterError:
        raise
    except MODEL_FAILURES as error:
        first = error  # a class that mixes its own real tensors with ours, for one
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        return _run(Stage(workload, spec), kind(stack, "cpu"), CPU, mode)
    except LatentmeterError:
        raise
    except MODEL_FAILURES as error:
        raise ModelError(f"{workload.key}: cannot be traced without data: {first}") from error


def _run(
    stage: Stage, trace: Trace, device: torch.device, mode: AbstractContextManager[Any]
) -> tuple[Stage, Trace, tuple[tuple[int, ...], ...]]:
    """The three phases of a real process, without data; the shapes are the outputs'."""
    was_enabled = gc.isenabled()
    gc.disable()  # a collection in the middle would free cycles at a moment of its own choosing
    try:
        with mode:
            with trace.during("model", "weights"):
                stage.load(device)
                trace.track([*stage.module.parameters(), *stage.module.buffers()])
            trace.configure(stage)
            for earlier in stage.earlier():
                with trace.during("earlier", "activations", stage.module):
                    earlier.make_inputs(device)
                    earlier()
                del earlier
            if stage.workload.history.empty_cache:
                trace.cache_emptied_at.add(len(trace.events))
            with trace.during("inputs", "inputs"):
                stage.make_inputs(device)
            with trace.during("cold", "activations", stage.module):
                output = stage()
    finally:
        trace.planner.close()
        if was_enabled:
            gc.enable()
    stage.check_output(output)
    for number in trace.storages_of(output):
        if trace.blocks[number].phase == "cold":
            trace.blocks[number].term = "outputs"
    outputs = output if isinstance(output, tuple) else (output,)
    return stage, trace, tuple(tuple(item.shape) for item in outputs)


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


def _assumed(trace: Trace) -> dict[str, str]:
    """What the trace took for granted where a model asked for data that follow from weights."""
    notes = {}
    if masks := trace.values.masks:
        notes["masks"] = f"{len(masks)} masks of unknown content taken as all valid, the worst case; first: {masks[0]}"
    if choices := trace.values.choices:
        notes["choices"] = f"{len(choices)} top-k choices, such as of experts, taken as even; first: {choices[0]}"
    return notes


def _workspace_note(trace: Trace) -> dict[str, str]:
    """Says how many convolutions had no plan of cuDNN's own."""
    approximate = trace.routes["convolution cudnn, closed form"]
    if not approximate:
        return {}
    total = approximate + trace.routes["convolution cudnn, planned"]
    text = f"{approximate} of {total} convolutions priced by a closed form, which is approximate"
    return {"terms.workspace": f"{text}; with `pip install latentmeter[planner]` cuDNN itself is asked"}


def _fits(trace: Trace, stack: Stack, peak: Memory, context: int | None, notes: dict[str, str]) -> bool | None:
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
        squeezed = Replay(trace, allocator, squeeze=True).squeezed
    except OutOfMemory as error:
        notes["fits"] = f"no room for {error.requested:,} B with {allocator.allocated:,} B allocated"
        return False
    if squeezed:
        notes["fits"] = f"only with smaller workspaces than planned in {squeezed} convolutions, which may be slower"
    elif allocator.retries:
        notes["fits"] = f"only by giving cached segments back {allocator.retries} times, which stalls the device"
    return True


def _latent(workload: Workload, spec: ModelSpec) -> dict[str, Any]:
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
