"""Hot spots of a whole generation: the profile of its load and first call, and what another placement would take."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from profiler.allocator.histories import Histories, allocator_of
from profiler.allocator.replay import Replay
from profiler.data.alloc_conf import VARIABLE
from profiler.data.memory import SECOND, Memory, PhasePeak, highest
from profiler.data.records import AppliedOption
from profiler.data.stack import Stack
from profiler.data.units import format_bytes
from profiler.data.workload import MemoryOptions, Placement
from profiler.diagnosis.collect import make_profile, usage_of
from profiler.diagnosis.held import HeldTrace
from profiler.diagnosis.hotspots import Hotspots, summarize
from profiler.diagnosis.profile import Generated, Profile
from profiler.diagnosis.remedies import CAUTIONS, EXPANDABLE, Remedy, make_remedy, sort_out, with_expandable
from profiler.errors import LatentmeterError
from profiler.estimation.answer import plans_on
from profiler.estimation.calls import check_call
from profiler.estimation.placed import estimate_placed, phases_of, trace_placed
from profiler.models.build import TORCH_DTYPES
from profiler.models.pipeline_spec import PipelineSpec
from profiler.stages.generation import Generation
from profiler.stages.generation_ready import made_ready
from profiler.trace.placed import PlacedTrace

NOTHING: Mapping[str, Any] = MappingProxyType({})
LEVELS = ("allocated", "reserved")
SWITCHES = ("tiling", "slicing")  # of a VAE, which change no pixel or few
PLACEMENTS = (
    Placement(offload="model"),
    Placement(offload="group-block", stream=True),
    Placement(offload="group-leaf", stream=True),
    Placement(offload="sequential"),
)


def generation_hotspots(
    spec: PipelineSpec,
    stack: Stack,
    placement: Placement | None = None,
    options: MemoryOptions | None = None,
    *,
    remedies: bool,
    context_bytes: int | None = None,
    said: Mapping[str, str] = NOTHING,
    **call: Any,
) -> tuple[Hotspots, Profile]:
    """Hot spots of a generation, and the profile they were read from. Arguments and errors as of `estimate_generation`.

    `said` are notes on its card.
    """
    check_call(call)
    call = {name: value for name, value in call.items() if value is not None}
    placement, options = placement or Placement(), options or MemoryOptions()
    pipe, inputs, applied, notes = made_ready(spec, options, **call)
    how: dict[str, Any] = {"options": options, "applied": applied, "name": spec.id, "context_bytes": context_bytes}
    profile = profile_pipeline(pipe, inputs, placement, stack, **how)
    profile = replace(profile, notes={**profile.notes, **notes, **said})
    if not remedies:
        return summarize(profile), profile
    return summarize(profile, *_remedies(profile, spec, placement, options, context_bytes, call)), profile


def profile_pipeline(
    pipe: Any,
    inputs: Any,
    placement: Placement,
    stack: Stack,
    *,
    options: MemoryOptions,
    name: str,
    function: Any = None,
    applied: Mapping[str, AppliedOption] = NOTHING,
    context_bytes: int | None = None,
) -> Profile:
    """The profile of a pipeline's load and first call; `options` were `applied` before. Raises UserError, ModelError.

    `function` is what calls the pipeline, by default itself.
    """
    how: dict[str, Any] = {"context_bytes": context_bytes, "options": options, "applied": applied}
    called = function or pipe
    whole = estimate_placed(called, pipe, inputs, placement, stack, **how)
    run, trace = Generation(called, pipe, inputs, placement), HeldTrace(stack)
    run.asked, run.options = options, applied
    trace_placed(run, trace, warm_calls=0)
    usage = usage_of(run, trace)
    usage = replace(usage, owners=dict(trace.owners) | usage.owners, held=trace.held)
    named = inputs if isinstance(inputs, Mapping) else NOTHING
    asked = Generated(
        pipeline=name,
        dtype="",
        frames=named.get("num_frames"),
        height=named.get("height"),
        width=named.get("width"),
        options=options,
        placement=placement,
    )
    plan_of, spans = plans_on(stack), phases_of(trace)
    histories = Histories(trace, stack, context_bytes, plan_of, spans=spans)
    if whole.fits and histories.here and histories.here.refused:  # the first call anew, which no later one is
        histories.fresh = Replay(trace, allocator_of(stack, histories.capacity), plan_of=plan_of, spans=spans)
    profile = make_profile(histories, asked, "estimated", usage)
    component = pipe.components.get(profile.ops[profile.peak_op][0].split(".")[0])
    dtype = next((name for name, its in TORCH_DTYPES.items() if its == getattr(component, "dtype", None)), "")
    notes = {"second call": second_call(whole.phases)} | whole.notes
    return replace(profile, workload=replace(asked, dtype=dtype), notes=notes, verdict=whole.verdict)


def second_call(phases: Sequence[PhasePeak]) -> str:
    """How much a second call takes beside the first one, whose hot spots these are, and in which phase."""
    first, second = (
        {
            level: max(getattr(phase.peak, f"{level}_bytes") for phase in phases if phase.call == call)
            for level in LEVELS
        }
        for call in (SECOND - 1, SECOND)
    )
    more = [
        f"{format_bytes(second[level])} {level} ({format_bytes(second[level] - first[level])} more)"
        for level in LEVELS
        if second[level] > first[level]
    ]
    if not more:
        return "takes no more than the first, whose hot spots these are"
    where = highest(phase for phase in phases if phase.call == SECOND).name
    return f"takes {' and '.join(more)}, the most in {where}; these are the hot spots of the first"


def _remedies(
    profile: Profile,
    spec: PipelineSpec,
    placement: Placement,
    options: MemoryOptions,
    context_bytes: int | None,
    call: dict[str, Any],
) -> tuple[list[Remedy], dict[str, str]]:
    """Other placements, the VAE's switches and expandable segments, each by itself: those that help, why not the others."""
    before = Memory(allocated_bytes=profile.peak, reserved_bytes=profile.reserved)
    fits = None if profile.verdict is None else profile.verdict != "does not fit"
    tried, left_out = [], {}
    for name, how, other, switched in _candidates(placement, options):
        try:
            pipe, inputs, applied, _ = made_ready(spec, switched, **call)
            run, trace = Generation(pipe, pipe, inputs, other), PlacedTrace(profile.stack)
            run.asked, run.options = switched, applied
            trace_placed(run, trace, warm_calls=0)
        except LatentmeterError as error:
            left_out[how] = str(error)
            continue
        after = Histories(trace, profile.stack, context_bytes, plans_on(profile.stack))
        caution = (
            f"slower: weights wait on the host, {format_bytes(trace.host.peak)} at most, and are moved for their use"
        )
        remedy = make_remedy(name, how, before, after.peak, CAUTIONS.get(name, caution))
        tried.append(replace(remedy, fits=after.fits, fits_before=fits))
    if expandable := with_expandable(profile.stack):
        after = Histories(profile, expandable, context_bytes, plans_on(expandable))
        remedy = make_remedy("expandable_segments", f"{VARIABLE}={EXPANDABLE}", before, after.peak)
        tried.append(replace(remedy, fits=after.fits, fits_before=fits))
    return sort_out(tried, left_out)


def _candidates(placement: Placement, options: MemoryOptions) -> Iterator[tuple[str, str, Placement, MemoryOptions]]:
    for other in PLACEMENTS:
        if other != placement:
            yield "placement", f"--offload {other.offload}{' --stream' * other.stream}", other, options
    for switch in SWITCHES:
        if not getattr(options, switch):
            on: dict[str, Any] = {switch: True}
            yield switch, f"--{switch}", placement, replace(options, **on)
