"""Hot spots of a whole generation: the profile of its highest call, of two, and what another placement would take."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from profiler.allocator.histories import Histories
from profiler.data.alloc_conf import VARIABLE
from profiler.data.memory import SECOND, Memory, PhasePeak, highest
from profiler.data.records import CallEstimate
from profiler.data.stack import Stack
from profiler.data.units import format_bytes
from profiler.data.workload import MemoryOptions, Placement
from profiler.diagnosis.collect import make_profile, usage_of
from profiler.diagnosis.held import HeldTrace
from profiler.diagnosis.hotspots import Hotspots, summarize
from profiler.diagnosis.one_call import one_call, usage_on
from profiler.diagnosis.profile import Generated, Profile
from profiler.diagnosis.remedies import CAUTIONS, EXPANDABLE, Remedy, make_remedy, sort_out, tried, with_expandable
from profiler.estimation.answer import plans_on
from profiler.estimation.calls import check_call
from profiler.estimation.placed import TracedGeneration, ask_traced
from profiler.estimation.priced import Priced
from profiler.estimation.worst import worst_of
from profiler.models.build import TORCH_DTYPES
from profiler.models.pipeline_spec import PipelineSpec

NOTHING: Mapping[str, Any] = MappingProxyType({})
DTYPE_NAMES: dict[Any, str] = {dtype: name for name, dtype in TORCH_DTYPES.items()}
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
    target_of: Callable[[str | Path | None], tuple[Stack, int | None]],
    gpu: str | Path | None = None,
    vram: str | None = None,
    placement: Placement | None = None,
    options: MemoryOptions | None = None,
    *,
    remedies: bool,
    **call: Any,
) -> tuple[Hotspots, Profile]:
    """Hot spots of a generation, and the profile they were read from. Arguments and errors as of `ask_traced`.

    They are of card `gpu`, or of those sold with `vram` the one that needs most; `target_of` has the stack of a card, and
    its context's bytes.
    """
    check_call(call, placement, options)
    call = {name: value for name, value in call.items() if value is not None}
    placement, options = placement or Placement(), options or MemoryOptions()
    how: dict[str, Any] = {"placement": placement, "options": options, "kind": HeldTrace, **call}
    said = {}
    if vram is not None and gpu is None:
        how["traced"] = {}

        def ask(card: str) -> CallEstimate:
            on = target_of(card)
            return ask_traced(lambda one: one.on(*on)[0], spec, on[0], **how)

        gpu, found = worst_of(vram, ask)
        said = {"stack.card": found.notes["stack.card"]}
    target = target_of(gpu)
    profile, histories = ask_traced(lambda one: profile_traced(one, *target, spec.id), spec, target[0], **how)
    profile.notes.update(said)
    if not remedies:
        return summarize(profile), profile
    tried = _remedies(profile, histories, spec, placement, options, target, call)
    return summarize(profile, *tried), profile


def profile_traced(traced: TracedGeneration, stack: Stack, context: int | None, name: str) -> tuple[Profile, Histories]:
    """The profile of the call with the highest peak, the first or the second, and the replays of both.

    The trace is a `HeldTrace`. Raises Elsewhere as `TracedGeneration.on` does.
    """
    whole, histories = traced.on(stack, context)
    run, trace, stream = traced.watched.run, traced.trace, histories.events
    assert isinstance(trace, HeldTrace)
    usage = usage_of(run, trace)
    usage = replace(usage, owners=dict(trace.owners) | usage.owners, held=trace.held)
    call = max(SECOND - 1, highest(whole.phases).call)
    events, ops = trace.spans[call - 1]
    if isinstance(stream, Priced):
        usage = usage_on(stream, usage)
        events = range(stream.at[events.start], stream.at[events.stop])
    named = run.inputs if isinstance(run.inputs, Mapping) else NOTHING
    asked = Generated(
        pipeline=name,
        dtype="",
        frames=named.get("num_frames"),
        height=named.get("height"),
        width=named.get("width"),
        options=run.asked,
        placement=run.placement,
    )
    both = make_profile(histories, asked, "estimated", usage)
    profile = one_call(both, call, histories.fresh.phases, events, ops)
    component = run.pipe.components.get(profile.ops[profile.peak_op][0].split(".")[0])
    dtype = DTYPE_NAMES.get(getattr(component, "dtype", None), "")
    notes = {"second call": second_call(whole.phases, call)} | whole.notes
    told = replace(profile, workload=replace(asked, dtype=dtype), notes=notes, verdict=whole.verdict)
    return told, histories


def second_call(phases: Sequence[PhasePeak], told: int) -> str:
    """How much a second call takes beside the first one, and in which phase; of which of them the hot spots are `told`."""
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
    whose = "its hot spots" if told == SECOND else "the hot spots of the first"
    return f"takes {' and '.join(more)}, the most in {where}; these are {whose}"


def _remedies(
    profile: Profile,
    histories: Histories,
    spec: PipelineSpec,
    placement: Placement,
    options: MemoryOptions,
    target: tuple[Stack, int | None],
    call: dict[str, Any],
) -> tuple[list[Remedy], dict[str, str]]:
    """Other placements, the VAE's switches and expandable segments, each by itself: those that help, why not the others."""
    before = Memory(allocated_bytes=profile.peak, reserved_bytes=profile.reserved)

    def remedy(name: str, how: str, after: Histories, caution: str = "") -> Remedy:
        peak = max(after.peak, after.later, key=lambda peak: peak.allocated_bytes or 0)
        return replace(make_remedy(name, how, before, peak, caution), fits=after.fits, fits_before=histories.fits)

    def other(name: str, how: str, placement: Placement, options: MemoryOptions) -> Remedy:
        changed: dict[str, Any] = {"placement": placement, "options": options, **call}
        told, after = ask_traced(lambda one: one.on(*target), spec, target[0], **changed)
        host = format_bytes(told.host.peak if told.host else None)
        caution = f"slower: weights wait on the host, {host} at most, and are moved for their use"
        return remedy(name, how, after, CAUTIONS.get(name, caution))

    parts: dict[str, Callable[[], Remedy]] = {one[1]: partial(other, *one) for one in _candidates(placement, options)}
    if expandable := with_expandable(profile.stack):
        how = f"{VARIABLE}={EXPANDABLE}"
        again = partial(Histories, histories.events, expandable, target[1], plans_on(expandable))
        parts[how] = lambda: remedy("expandable_segments", how, again())
    return sort_out(tried(parts))


def _candidates(placement: Placement, options: MemoryOptions) -> Iterator[tuple[str, str, Placement, MemoryOptions]]:
    for other in PLACEMENTS:
        if other != placement:
            yield "placement", f"--offload {other.offload}{' --stream' * other.stream}", other, options
    for switch in SWITCHES:
        if not getattr(options, switch):
            on: dict[str, Any] = {switch: True}
            yield switch, f"--{switch}", placement, replace(options, **on)
