"""The estimate of a whole generation: a pipeline is loaded, placed and called twice without data, then told by phases."""

import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from profiler.data.events import first_event, first_later_event
from profiler.data.memory import HostBytes
from profiler.data.records import CallEstimate
from profiler.data.spans import spans_of
from profiler.data.stack import Stack
from profiler.data.workload import MemoryOptions, Placement
from profiler.errors import MODEL_FAILURES, LatentmeterError, ModelError, UserError, first_line
from profiler.estimation.answer import answer
from profiler.estimation.estimator import trace_calls
from profiler.machine.environment import check_settings
from profiler.models.pipeline import build_pipeline, call_arguments, pipeline_class, set_guidance
from profiler.models.pipeline_spec import PipelineSpec
from profiler.models.spec import Size
from profiler.stages.generation import Generation, kept
from profiler.trace.placed import PlacedTrace

STEPS = 3  # stand for any number: by then the loop's peak has stood, UniPC's too (docs/how-it-works.md, dry runs of 50)
SWITCHES = ("tiling", "slicing")  # the VAE's, that a pipeline passes on


def estimate_generation(
    spec: PipelineSpec,
    stack: Stack,
    *,
    placement: Placement,
    options: MemoryOptions,
    dtype: Any = None,
    context_bytes: int | None = None,
    **call: Any,
) -> CallEstimate:
    """Estimate the pipeline that `spec` describes. `call` are arguments of `call_arguments`, with `frames` and sides alone.

    Raises UserError for an argument or option that it does not take, ModelError where the call fails.
    """
    sides = {name: call.pop(name, None) for name in ("frames", "height", "width")}
    size = spec.default or Size(frames=1, height=512, width=512)
    size = size.model_copy(update={name: value for name, value in sides.items() if value is not None})
    pipe = build_pipeline(spec, dtype)
    _switch(pipe, spec, options)
    if call.get("guidance") is not None:
        set_guidance(spec, pipe, call["guidance"])
    asked = call.pop("steps", None) or spec.call.get("num_inference_steps")
    steps = few_steps(spec, asked)
    inputs = call_arguments(spec, size=size, steps=steps, **call)
    found = estimate_placed(pipe, pipe, inputs, placement, stack, context_bytes=context_bytes)
    if steps == asked:
        return found
    note = f"{steps} of {asked} steps are traced: later ones allocate the same, but for a scheduler's small history"
    return replace(found, notes=found.notes | {"steps": note})


def few_steps(spec: PipelineSpec, asked: int | None = None) -> int | None:
    """As many steps as stand for those `asked` for, or published; None for a pipeline that names none.

    Image to image leaves out the first ones: `strength` is the share that is taken.
    """
    asked = asked or spec.call.get("num_inference_steps")
    taken = inspect.signature(pipeline_class(spec.class_name).__call__).parameters.get("strength")
    given = spec.call.get("strength", taken.default if taken else 1.0)
    return None if asked is None else min(asked, math.ceil(STEPS / (float(given) if given else 1.0)))


def _switch(pipe: Any, spec: PipelineSpec, options: MemoryOptions) -> None:
    """Apply the VAE's switches. Raises UserError for those that are off the mark here."""
    asked = [field.name for field in fields(options) if getattr(options, field.name) != field.default]
    for name in asked:
        method = getattr(getattr(pipe, "vae", None), f"enable_{name}", None)
        if name not in SWITCHES or method is None:
            raise UserError(
                f"{name}: {spec.class_name} takes {' and '.join(SWITCHES)} in a generation, if its VAE does"
            )
        method()


def estimate_placed(
    function: Callable[..., Any],
    pipe: Any,
    inputs: Sequence[Any] | Mapping[str, Any],
    placement: Placement,
    stack: Stack,
    *,
    context_bytes: int | None = None,
) -> CallEstimate:
    """Estimate `function` on `inputs`, which calls the pipeline `pipe`: its load, a first call and a second one.

    Raises UserError, ModelError as `estimate_with_events` does.
    """
    return estimate_with_events(function, pipe, inputs, placement, stack, context_bytes=context_bytes)[0]


def estimate_with_events(
    function: Callable[..., Any],
    pipe: Any,
    inputs: Sequence[Any] | Mapping[str, Any],
    placement: Placement,
    stack: Stack,
    *,
    context_bytes: int | None = None,
) -> tuple[CallEstimate, PlacedTrace]:
    """The same, and the events that it was read from.

    The pipeline is left as it was. Raises UserError where it refuses the placement, ModelError where the call fails, as it
    may on a card too: a weight that stays behind, for one.
    """
    started = time.perf_counter()
    check_settings(stack)
    trace = PlacedTrace(stack)
    try:
        with kept(pipe):
            watched = trace_calls(Generation(function, pipe, inputs, placement), trace, warm_calls=1)
    except LatentmeterError:
        raise
    except MODEL_FAILURES as error:
        what = f"{type(pipe).__name__} with {placement.key or 'all on the card'}"
        raise ModelError(f"{what}: the call fails without data: {first_line(error)}") from error
    ends = first_event(trace), first_later_event(trace), len(trace.events)
    host = HostBytes(pinned=trace.host.pinned, pageable=trace.host.peak_pageable, peak=trace.host.peak)
    spans = spans_of(trace.marks, *ends)
    traced = watched.traced
    if trace.thresholds:
        traced.notes["thresholds"] = f"a number of the checkpoint is taken as 0; first in {trace.thresholds[0]}"
    rest: dict[str, Any] = {"context_bytes": context_bytes, "started": started}
    return answer(traced, stack, **rest, spans=spans, owners=trace.owners, host=host), trace
