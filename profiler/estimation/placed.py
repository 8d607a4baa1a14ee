"""The estimate of a whole generation: a pipeline is loaded, placed and called twice without data, then told by phases."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from profiler.allocator.histories import Histories
from profiler.data.events import first_event, first_later_event
from profiler.data.latent import LatentEstimate
from profiler.data.memory import HostBytes
from profiler.data.records import CallEstimate, Estimate
from profiler.data.spans import spans_of
from profiler.data.stack import Stack
from profiler.data.workload import CAST, DtypeName, MemoryOptions, Placement, Workload
from profiler.errors import MODEL_FAILURES, LatentmeterError, ModelError, UserError, first_line, kind_and_line
from profiler.estimation.answer import answer, closed_form
from profiler.estimation.estimator import APART, Watched, forget, trace_calls
from profiler.estimation.priced import Priced, priced
from profiler.kernels.prices import Elsewhere
from profiler.machine.environment import check_settings
from profiler.models.attention import VARIABLE
from profiler.models.catalog import catalog_model
from profiler.models.pipeline_spec import PipelineSpec
from profiler.stages.call import attributes_kept
from profiler.stages.generation import Generation, dtypes, ordered, quiet
from profiler.stages.generation_options import default_backend
from profiler.stages.generation_ready import Ready, generation_of, made_ready
from profiler.trace.placed import PlacedTrace

Tell = Callable[[str], None]
Found = TypeVar("Found")
CHECKED = "taken to find nothing: it would make a black picture of what it finds"
WAITS = "blocks wait until the card is done with them, here no time: reserved bytes differ a little from run to run"


def estimate_generation(
    spec: PipelineSpec, stack: Stack, *, context_bytes: int | None = None, tell: Tell = lambda _: None, **how: Any
) -> CallEstimate:
    """Estimate the pipeline that `spec` describes; `tell` hears what is done. The rest, and errors, as of `ask_traced`."""
    return ask_traced(lambda one: one.on(stack, context_bytes, tell)[0], spec, stack, tell=tell, **how)


def ask_traced(
    ask: "Callable[[TracedGeneration], Found]",
    spec: PipelineSpec,
    stack: Stack,
    *,
    placement: Placement,
    options: MemoryOptions,
    dtype: DtypeName | None = None,
    tell: Tell = lambda _: None,
    traced: "Traces | None" = None,
    kind: type[PlacedTrace] = PlacedTrace,
    **call: Any,
) -> Found:
    """What `ask` finds in a trace of the pipeline that `spec` describes, on `stack`; `call` as for `made_ready`.

    `traced` keeps the last ones: asked the same but for the card, one is priced anew, and a pipeline that was built is
    placed otherwise. `kind` traces.
    Raises UserError for an argument or option that the pipeline does not take, ModelError where the call fails.
    """
    made_as = repr((spec.digest, options, dtype, call))
    # A trace with slots depends on neither the card and its memory, nor how the allocator keeps it.
    card: dict[str, Any] = dict.fromkeys(("gpu", "capability", "multiprocessors", "device_total_bytes"))
    kept_as = made_as, repr((placement, sorted((asdict(stack.of_any_segments) | card).items(), key=str)))
    for one in traced.get(kept_as, ()) if traced is not None else ():
        with suppress(Elsewhere):  # what this card's kernels make of a call is not what was traced
            return ask(one)
    ready = next((ones[0].ready for key, ones in (traced or {}).items() if key[0] == made_as), None)
    if ready is None:
        tell(f"building {spec.id}")
        ready = made_ready(spec, options, dtype, **call)
    if traced is not None:
        with suppress(Elsewhere):  # a buffer that no price says
            one = trace_generation(ready.placed(placement), stack, tell=tell, kind=kind, slots=True)
            traced[kept_as] = [*traced.pop(kept_as, ()), replace(one, ready=ready)][-2:]
            forget(traced)
            return ask(one)
    return ask(trace_generation(ready.placed(placement), stack, tell=tell, kind=kind))


@dataclass(frozen=True)
class TracedGeneration:
    """A generation that was traced once. `on` answers for its card with any memory; where it has slots, for any card."""

    watched: Watched[Generation]
    trace: PlacedTrace
    notes: dict[str, str]
    ready: Ready | None = None  # to be placed otherwise

    def on(self, stack: Stack, context: int | None, tell: Tell = lambda _: None) -> tuple[CallEstimate, Histories]:
        """The estimate on `stack`: the card that it was traced for, but for its memory and how the allocator keeps it.

        And the replays that it was read from. Raises Elsewhere where it has slots, and the card takes another path than the
        traced one.
        """
        started, found = time.perf_counter(), self.watched.traced
        trace: PlacedTrace | Priced = self.trace
        if self.trace.slots:
            trace, found = priced(self.trace, found, stack)
        tell(f"replaying {len(trace.events):,} allocator events")
        laid = self.trace.host
        host = HostBytes(pinned=laid.pinned, pageable=laid.peak_pageable, peak=laid.peak)
        spans = spans_of(trace.marks, first_event(trace), first_later_event(trace), len(trace.events))
        laid_at = next((block.born for block in trace.blocks if block.phase != "model"), 0)  # inputs are no load's
        spans = tuple(replace(s, stop=s.stop if s.call else laid_at) for s in spans if s.call or laid_at)
        histories = found.on(stack, context, spans)
        told = answer(found, histories, started=started, owners=trace.owners, host=host)
        return replace(told, notes=told.notes | self.notes), histories


def estimate_with_events(
    run: Generation, stack: Stack, *, context_bytes: int | None = None
) -> tuple[CallEstimate, PlacedTrace]:
    """The estimate of `run`, and the events that it was read from. Raises as `trace_generation` does."""
    started = time.perf_counter()
    traced = trace_generation(run, stack)
    found, _ = traced.on(stack, context_bytes)
    return replace(found, seconds=time.perf_counter() - started), traced.trace


Traces = dict[tuple[str, str], list[TracedGeneration]]  # by what was made ready, and by how it was placed on what stack


def trace_generation(
    run: Generation,
    stack: Stack,
    *,
    tell: Tell = lambda _: None,
    slots: bool = False,
    kind: type[PlacedTrace] = PlacedTrace,
) -> TracedGeneration:
    """Trace `run` by a trace of `kind`. Its pipeline is left as it was; `tell` hears which part of it runs.

    With `slots` the trace serves every card. Raises UserError where the pipeline refuses the placement, ModelError where the
    call fails, as it may on a card too: a weight that stays behind, for one; with `slots` Elsewhere, where a buffer has no
    price.
    """
    trace = kind(stack, tell=tell, slots=slots)
    watched = trace_placed(run, trace, warm_calls=1)
    notes = dict(run.notes)
    if run.backend:
        notes["stack.attention_backend"] = f"{VARIABLE} makes {run.backend} the default"
    if run.said:
        notes["size"] = f"{type(run.pipe).__name__} says: {'; '.join(run.said)}"
    if getattr(run.pipe, "safety_checker", None) is not None:
        notes["safety_checker"] = CHECKED
    if run.placement.record_stream:
        notes["record-stream"] = WAITS
    return TracedGeneration(watched, trace, notes)


def trace_placed(run: Generation, trace: PlacedTrace, *, warm_calls: int) -> Watched[Generation]:
    """Trace a generation, its load and its calls. Raises as `trace_generation` does, and leaves the pipeline as it was."""
    check_settings(trace.stack)
    run.backend = default_backend(run.pipe, run.asked)
    with attributes_kept(run.owners), ordered(run.owners), quiet() as run.said:
        before = dtypes(run.pipe)
        try:
            return trace_calls(run, trace, warm_calls=warm_calls)
        except LatentmeterError:
            raise
        except MODEL_FAILURES as error:
            what = f"{type(run.pipe).__name__} with {run.placement.key or 'all on the card'}"
            raise ModelError(f"{what}: the call fails {_why(run, before, error)}") from error


def _why(run: Generation, before: Mapping[str, Any], error: Exception) -> str:
    """What an error of a call says; where it is one of the placement, which a card has too, which others there are."""
    said, offload = first_line(error), run.placement.offload
    cast = [name for name, found in dtypes(run.pipe).items() if found != before[name]]
    apart = any(words in said for words in APART)
    if apart and offload in ("none", "model") and "cpu" in said:
        why = "a tensor of the call lies on the host and is not brought: one of device `meta` is made on the card"
        if offload == "model":
            why += "; or a component is called otherwise than by its forward, by which model brings it"
    elif apart and offload not in ("none", "model"):
        unit, others = ("block", "group-leaf, model, sequential") if offload == "group-block" else ("layer", "model")
        why = f"{offload} brings weights for the forward of a {unit}, and something uses them outside of it"
        why += f"; offload {others} and none bring them all"
    elif run.placement.stream and cast:  # ModuleGroup copies each weight at its start: diffusers' group_offloading.py
        why = f"the pipeline casts {' and '.join(cast)}, but {CAST}"
        why += f"; offload {offload} without stream, model, sequential and none bring them as cast"
    else:
        return f"without data: {kind_and_line(error)}"
    return f"on a card too: {said}: {why}"


def estimate_workload(
    workload: Workload, spec: PipelineSpec, stack: Stack, *, context_bytes: int | None = None
) -> tuple[Estimate, PlacedTrace]:
    """The estimate of a whole generation as a case of a run, and its events. Raises UserError, ModelError."""
    if stack.device == "cpu":
        raise UserError("a whole generation is estimated for a card alone, as `gpu: rtx-4090`; the CPU measures it")
    run = generation_of(workload, spec, with_data=False)
    found, trace = estimate_with_events(run, stack, context_bytes=context_bytes)
    latent = closed_form(workload, catalog_model(spec.model)) if spec.model else LatentEstimate()
    return Estimate(**vars(found), workload=workload, latent=latent), trace
