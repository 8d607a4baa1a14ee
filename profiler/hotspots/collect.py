"""Makes a profile of a workload: traced and replayed, or from a measured stream that the trace explains."""

from profiler.estimate.estimator import trace_stage
from profiler.estimate.history import allocator_of
from profiler.estimate.replay import Replay
from profiler.hotspots.profile import Profile, Usage
from profiler.hotspots.usage import UsageTrace
from profiler.models.spec import ModelSpec
from profiler.stack import Stack
from profiler.stages import Stage
from profiler.workload import Workload


def estimated(workload: Workload, spec: ModelSpec, stack: Stack) -> tuple[Profile, Stage]:
    """The profile without a GPU, and the stage that was run. Raises UserError, ModelError."""
    stage, trace, shapes = trace_stage(workload, spec, stack, UsageTrace)
    assert isinstance(trace, UsageTrace)
    replay = Replay(trace, allocator_of(stack))
    return Profile(
        workload=workload,
        stack=stack,
        source="estimated",
        blocks=trace.blocks,
        events=list(trace.events),  # the trace goes on: weights die with the stage
        ops=trace.ops,
        sizes=replay.sizes,
        peak_event=replay.peak_event,
        reserved=replay.peak.reserved_bytes,
        emptied_at=trace.cache_emptied_at,
        usage=_usage(stage, trace),
        output_shapes=shapes,
        options=stage.options,
    ), stage


def _usage(stage: Stage, trace: UsageTrace) -> Usage:
    owners = {
        number: name.rpartition(".")[0]
        for named in (stage.module.named_parameters(), stage.module.named_buffers())
        for name, tensor in named
        for number in trace.storages_of(tensor)
    }
    classes = {name: type(module).__name__ for name, module in stage.module.named_modules()}
    return Usage(
        reads=trace.reads,
        calls=trace.calls,
        call_of=trace.call_of,
        kernels=trace.kernels,
        freed_in=trace.freed_in,
        owners=owners,
        classes=classes,
    )
