"""Hot spots of a call of the user's own, which `estimate_call` takes: any function over real modules, or a pipeline's."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from profiler.data.stack import Stack
from profiler.data.workload import MemoryOptions, Placement
from profiler.diagnosis.collect import profile_of
from profiler.diagnosis.generation import DTYPE_NAMES, profile_traced
from profiler.diagnosis.held import HeldTrace
from profiler.diagnosis.hotspots import Hotspots, summarize
from profiler.diagnosis.profile import Generated
from profiler.diagnosis.usage import UsageTrace
from profiler.estimation.own_call import trace_own
from profiler.estimation.placed import trace_generation
from profiler.stages.call import attributes_kept
from profiler.stages.generation import Generation, call_of
from profiler.trace.placed import PlacedTrace


class PlacedUsage(UsageTrace, PlacedTrace):
    """A trace of the user's own call on a card that knows who reads each tensor."""


def call_hotspots(
    function: Callable[..., Any],
    inputs: Sequence[Any] | Mapping[str, Any],
    modules: Any,
    placement: Placement | None,
    stack: Stack,
    context_bytes: int | None,
) -> Hotspots:
    """Where the peak of the first call is, of a pipeline that of the higher of two, and why its bytes are alive.

    Arguments and errors as of `estimate_call`. It is traced anew, with who reads each tensor.
    """
    run = call_of(function, inputs, modules, placement)
    if isinstance(run, Generation):
        traced = trace_generation(run, stack, kind=HeldTrace)
        return summarize(profile_traced(traced, stack, context_bytes, run.name)[0])
    counts = Counter[str]()
    for weight in run.module.parameters():
        counts[DTYPE_NAMES.get(weight.dtype, "fp32")] += weight.numel()
    asked = Generated(
        pipeline=run.name,
        dtype=max(counts, key=counts.__getitem__, default="fp32"),
        frames=None, height=None, width=None,
        options=MemoryOptions(), placement=Placement(), stage="call",
    )  # fmt: skip
    with attributes_kept(run.owners):
        watched = trace_own(run, stack, PlacedUsage, UsageTrace)
        return summarize(profile_of(watched, asked, stack, context_bytes))
