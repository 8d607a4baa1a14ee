"""Makes a profile of a workload: traced and replayed, or of a measured stream, which the trace of the same call explains."""

from dataclasses import replace
from typing import Any

from profiler.allocator.histories import Histories
from profiler.data.align import align, pair
from profiler.data.events import Events
from profiler.data.records import Measurement
from profiler.data.stack import Stack
from profiler.data.workload import Workload
from profiler.diagnosis.profile import Generated, Profile, Source, Usage
from profiler.diagnosis.usage import UsageTrace
from profiler.estimation.answer import plans_on
from profiler.estimation.estimator import Watched, trace_stage
from profiler.estimation.stack_notes import stack_notes
from profiler.models.spec import ModelSpec
from profiler.stages.phases import Runnable
from profiler.stages.stage import Stage


def estimated(workload: Workload, spec: ModelSpec, stack: Stack, context: int | None = None) -> tuple[Profile, Stage]:
    """The profile without a GPU, and the stage that was run. Raises UserError, ModelError."""
    watched = trace_stage(workload, spec, stack, UsageTrace)
    return profile_of(watched, workload, stack, context), watched.run


def profile_of(watched: Watched[Any], workload: Workload | Generated, stack: Stack, context: int | None) -> Profile:
    """The profile of what a `UsageTrace` watched."""
    trace = watched.trace
    assert isinstance(trace, UsageTrace)
    histories = watched.traced.on(stack, context)
    profile = make_profile(histories, workload, "estimated", usage_of(watched.run, trace))
    notes = stack_notes(stack, trace.routes, trace.prices.planner.sources) | histories.notes()
    return replace(profile, output_shapes=watched.output_shapes, notes=notes, verdict=histories.verdict()[0])


def measured(measurement: Measurement, spec: ModelSpec, stream: Events) -> tuple[Profile, Stage]:
    """The profile of a measured stream. What it does not hold (reads, calls) comes from a trace of the same call.

    Raises UserError, ModelError.
    """
    workload, stack = measurement.workload, measurement.stack
    traced, stage = estimated(workload, spec, stack)
    usage = translated(traced, stream)
    kind: Source = "dry" if measurement.device_kind == "dry" else "measured"
    profile = make_profile(Histories(stream, stack, plan_of=plans_on(stack)), workload, kind, usage)
    counted = measurement.peak.allocated_bytes
    notes = {}
    if measurement.device_kind == "cpu":
        notes["allocated"] = "tensors only: the CPU's allocator says nothing of ops"
    elif counted != profile.peak:
        notes["allocated"] = f"the counters say {counted:,} B: {profile.peak:,} B stand in the recorded events"
    return replace(
        profile, output_shapes=measurement.output_shapes, reserved=measurement.peak.reserved_bytes, notes=notes
    ), stage


def make_profile(histories: Histories, workload: Workload | Generated, source: Source, usage: Usage) -> Profile:
    """The profile of a stream, with the phases of a generation where its replay has spans."""
    found, replay = histories.events, histories.fresh  # on this card, if it fits there
    return Profile(
        workload=workload, stack=histories.stack, source=source, usage=usage,
        blocks=found.blocks, events=found.events, ops=found.ops, cache_emptied_at=found.cache_emptied_at,
        sizes=replay.sizes, peak_event=replay.peak_event, reserved=replay.peak.reserved_bytes,
        phases={span: event for span, (_, event) in replay.phases.items() if span.call},
    )  # fmt: skip


def usage_of(stage: Runnable, trace: UsageTrace) -> Usage:
    """What a trace noted of the use of its blocks, and whose weights they are."""
    owners = {
        number: name.rpartition(".")[0]
        for named in (stage.module.named_parameters(), stage.module.named_buffers())
        for name, tensor in named
        for number in trace.storages_of(tensor)
    }
    return Usage(
        reads=trace.reads,
        calls=trace.calls,
        call_of=trace.call_of,
        kernels=trace.kernels,
        freed_in=trace.freed_in,
        owners=owners,
        classes={name: type(module).__name__ for name, module in stage.module.named_modules()},
    )


def translated(traced: Profile, stream: Events) -> Usage:
    """The trace's usage with its blocks and ops renumbered as they are in `stream`.

    The two streams come from the same call, but one may hold ops that the other does not. A block of the trace gets the
    number of the block of the stream that `pair` finds for it; what has no partner is left out. The lists of ops are
    laid side by side as `diff` does with lines: ops in the longest sequence that stands in both get each other's number.
    For example, of the traced ops (conv, add, mul) and the measured ones (conv, empty, add, mul), `add` is op 1 of the trace
    and op 2 of the stream.
    """
    usage, start, other = traced.usage, _first_op(traced), _first_op(stream)
    op_of = {start + a: other + b for a, b in align(traced.ops[start:], stream.ops[other:])}
    twin = pair(stream, traced)
    after, following = len(stream.ops), {}
    for op in range(len(traced.ops), -1, -1):  # where an op is missing, the next one that is there stands for it
        following[op] = after = op_of.get(op, after)
    return Usage(
        reads={n: [op_of[op] for op in usage.reads.get(e, []) if op in op_of] for n, e in twin.items()},
        calls=[replace(call, first=following[call.first], end=following[call.end]) for call in usage.calls],
        call_of={op_of[op]: call for op, call in usage.call_of.items() if op in op_of},
        kernels={
            op_of[op]: replace(kernel, end=following[kernel.end]) for op, kernel in usage.kernels.items() if op in op_of
        },
        freed_in={n: usage.freed_in[e] for n, e in twin.items() if e in usage.freed_in},
        owners={n: usage.owners[e] for n, e in twin.items() if e in usage.owners},
        classes=usage.classes,
    )


def _first_op(found: Events) -> int:
    return min((block.op for block in found.blocks if block.phase == "cold" and block.op >= 0), default=0)
