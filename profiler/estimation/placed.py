"""The estimate of a whole generation: a pipeline is loaded, placed and called twice without data, then told by phases."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from profiler.data.events import first_event, first_later_event
from profiler.data.memory import HostBytes
from profiler.data.records import CallEstimate
from profiler.data.spans import spans_of
from profiler.data.stack import Stack
from profiler.data.workload import Placement
from profiler.errors import MODEL_FAILURES, LatentmeterError, ModelError, first_line
from profiler.estimation.answer import answer
from profiler.estimation.estimator import trace_calls
from profiler.machine.environment import check_settings
from profiler.stages.generation import Generation, kept
from profiler.trace.placed import PlacedTrace


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
    return answer(
        watched.traced, stack, context_bytes=context_bytes, started=started, spans=spans, owners=trace.owners, host=host
    )
