"""The estimate: the stage is traced on tensors without data, `answer.py` replays its allocations and reads the peak."""

import gc
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from profiler.data.records import Estimate
from profiler.data.stack import Stack
from profiler.data.workload import Workload
from profiler.errors import MODEL_FAILURES, LatentmeterError, ModelError
from profiler.estimation.answer import Traced, answer
from profiler.models.build import component_class
from profiler.models.spec import ModelSpec
from profiler.stages.stage import Stage
from profiler.trace.trace import Trace

Tracer = Callable[..., Trace]
logger = logging.getLogger(__name__)
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
    workload.check_device(stack.device)
    component_class(spec.component(workload.stage).class_name)  # its import is no part of the estimate's cost
    started = time.perf_counter()
    stage, trace, output_shapes = trace_stage(workload, spec, stack)
    logger.info("traced %d events in %.2f s", len(trace.events), time.perf_counter() - started)
    logger.info("kernels priced: %s", dict(trace.routes) or "none")
    logger.info("cuDNN's plans by source: %s", trace.prices.planner.answered)
    traced = Traced(trace, trace.routes, stage.options, output_shapes, notes_of(trace))
    return answer(traced, workload, spec, stack, context_bytes=context_bytes, started=started), trace


def notes_of(trace: Trace) -> dict[str, str]:
    """What the trace took for granted where a model asked for data that follow from weights."""
    notes = {}
    if masks := trace.values.masks:
        notes["masks"] = f"masks of unknown content taken as all valid, the worst case; first in {masks[0]}"
    if choices := trace.values.choices:
        notes["choices"] = f"top-k choices, such as of experts, taken as spread evenly; first in {choices[0]}"
    return notes


def trace_stage(
    workload: Workload, spec: ModelSpec, stack: Stack, kind: Tracer = Trace
) -> tuple[Stage, Trace, tuple[tuple[int, ...], ...]]:
    """Run the stage on `meta` tensors; where a class cannot run on them, on fake ones, which are slower.

    `kind` makes what watches. The shapes are the outputs'. Raises UserError, ModelError.
    """
    try:
        return _run(Stage(workload, spec), kind(stack), META, nullcontext())
    except LatentmeterError:
        raise
    except MODEL_FAILURES as error:
        first = error  # a class that mixes its own real tensors with ours, for one
    logger.info("cannot run on meta tensors, fake ones are next: %s", first)
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
        trace.prices.planner.close()
        if was_enabled:
            gc.enable()
    stage.check_output(output)
    for number in trace.storages_of(output):
        if trace.blocks[number].phase == "cold":
            trace.blocks[number].term = "outputs"
    return stage, trace, tuple(_shapes(output))


def _shapes(output: Any) -> Iterator[tuple[int, ...]]:
    """The shape of every tensor in `output`; some classes give lists of them, or None where a part was not asked for."""
    if isinstance(output, (tuple, list)):
        for item in output:
            yield from _shapes(item)
    elif isinstance(output, torch.Tensor):
        yield tuple(output.shape)
