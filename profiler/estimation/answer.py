"""The answer: a stream of allocations replayed, its peak read and taken apart. Knows nothing of torch.

`baseline` is the moment when weights and inputs are resident; `peak` is the highest of the first (cold) call.
"""

import time
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from profiler.allocator.histories import Histories, PlanOf
from profiler.allocator.replay import Replay
from profiler.data.events import Block, Events, alive_at, place_of
from profiler.data.latent import LatentEstimate, estimate_video_latent_memory
from profiler.data.memory import HostBytes, Memory, PhasePeak, Terms
from profiler.data.records import AppliedOption, CallEstimate, Estimate
from profiler.data.spans import Span
from profiler.data.stack import Stack
from profiler.data.units import less
from profiler.data.workload import Workload
from profiler.estimation.stack_notes import stack_notes
from profiler.kernels.convolution import Convolution, route
from profiler.kernels.cudnn_plans import Sources
from profiler.models.spec import ModelSpec

# Attention packages whose kernels are not known from source: what they borrow is left out of the estimate.
LOWER_BOUND = ("sage", "xformers")


@dataclass(frozen=True)
class Traced:
    """What a trace found: its stream, the kernels that calls were priced as, options as applied, and notes.

    `sources` says which cuDNN planned its convolutions, `unplanned_bytes` how much more one may take than the closed form
    that priced it (`kernels/prices.py`).
    """

    events: Events
    routes: Mapping[str, int]
    options: dict[str, AppliedOption]
    output_shapes: tuple[tuple[int, ...], ...]
    notes: dict[str, str] = field(default_factory=dict)
    sources: Sources = field(default_factory=Sources)
    unplanned_bytes: int = 0

    def on(self, stack: Stack, context_bytes: int | None, spans: Sequence[Span] = ()) -> Histories:
        """The replays of the stream on `stack`. `context_bytes` is what CUDA takes outside the allocator, if known."""
        return Histories(self.events, stack, context_bytes, plans_on(stack), self.unplanned_bytes, spans)


def answer(
    traced: Traced,
    histories: Histories,
    *,
    started: float,
    owners: Mapping[int, str] = MappingProxyType({}),
    host: HostBytes | None = None,
) -> CallEstimate:
    """The estimate that a trace gives by its replays; `started` is when its making began (`time.perf_counter`).

    Of a placed call `owners` says whose weights a block has, `host` what is on the host.
    """
    stack, context_bytes = histories.stack, histories.context_bytes
    peak, fresh = histories.peak, histories.fresh
    verdict, _ = histories.verdict()
    notes = stack_notes(stack, traced.routes, traced.sources) | traced.notes
    notes |= _unknowns(stack, context_bytes, traced.routes)
    if left_out := sum(not fresh.sizes[number] for number in fresh.squeezed):  # in the first call, whose peak is told
        notes["peak.allocated_bytes"] = (
            f"at least: without the workspaces of {left_out} convolutions, for which there is no room"
        )
    cached = less(peak.reserved_bytes, peak.allocated_bytes)
    terms = fresh.terms() | ({"workspace": None} if stack.device == "cpu" else {})
    return CallEstimate(
        stack=stack,
        baseline=histories.baseline,
        peak=peak,
        terms=Terms(**terms, cached=cached, context=context_bytes),
        peak_at=fresh.peak_at(),
        warm=histories.later,
        roomy=histories.with_device(histories.roomy.first.peak),
        safe_reserved_bytes=histories.safe_reserved_bytes,
        fits=histories.fits,
        verdict=verdict,
        capacity_bytes=histories.capacity,
        first_call_fits=histories.first_call_fits,
        largest=fresh.largest(weights=not fresh.spans),  # of a placed call, they are told by component
        output_shapes=traced.output_shapes,
        seconds=time.perf_counter() - started,
        options=traced.options,
        routes=dict(traced.routes),
        events=len(traced.events.events),
        phases=tuple(_phase(fresh, owners, span, *found) for span, found in fresh.phases.items()),
        host=host,
        notes=notes | histories.notes(),
    )


def _phase(replay: Replay, owners: Mapping[int, str], span: Span, peak: Memory, at: int) -> PhasePeak:
    """The peak of a phase, which stands at event `at`, taken apart."""
    weights: Counter[str] = Counter()
    parts = Counter(live=0, activations=0)
    for block in alive_at(replay.trace.blocks, at):
        size = replay.sizes[block.number]
        if block.term == "weights":
            weights[owners.get(block.number) or place_of(replay.trace, block)[0].split(".")[0]] += size
        else:
            parts["live" if block.born < span.start else "activations"] += size
    return PhasePeak(name=span.name, call=span.call, peak=peak, weights=dict(weights), **parts)


def plans_on(stack: Stack) -> PlanOf:
    """Says of a block for which convolution cuDNN's plan borrows it; other kernels have no other plan to take."""

    def plan_of(block: Block) -> Hashable | None:
        call = block.price.call if block.price is not None else None
        return call if isinstance(call, Convolution) and route(call, stack) == "cudnn" else None

    return plan_of


def estimate_of(found: CallEstimate, workload: Workload, spec: ModelSpec) -> Estimate:
    """The estimate of a workload: that of its call, with the closed form beside it and whose config a class alone has."""
    config = {"model.config": spec.sources["config"]} if "config" in spec.sources else {}
    fields = vars(found) | {"notes": config | found.notes}
    return Estimate(**fields, workload=workload, latent=closed_form(workload, spec))


def _unknowns(stack: Stack, context: int | None, routes: Mapping[str, int]) -> dict[str, str]:
    """Why figures are unknown, or not exact, by their names."""
    device = ("baseline.device_bytes", "peak.device_bytes", "terms.context")
    if stack.device == "cpu":
        reserved = ("baseline.reserved_bytes", "peak.reserved_bytes", "terms.cached")
        reason = "a process's resident memory on the CPU also holds the interpreter and its libraries: not modelled"
        notes = dict.fromkeys(reserved, "the CPU allocator caches nothing") | dict.fromkeys(device, reason)
        return notes | {"terms.workspace": "no rules for CPU kernels: measured op by op instead"}
    reason = "the CUDA context of this card and build was not measured; device bytes are at least the reserved bytes"
    notes = dict.fromkeys(device, reason) if context is None else {}
    if routes.get("convolution cudnn, closed form"):
        notes["terms.workspace"] = "approximate: see `stack.planner`"
    for package in (name for name in LOWER_BOUND if routes.get(f"attention {name}")):
        said = f"at least: what {package}'s kernels borrow is not known; their outputs are counted"
        notes["peak.allocated_bytes"] = said
    return notes


def closed_form(workload: Workload, spec: ModelSpec) -> LatentEstimate:
    """The closed form for the same clip: what the latent alone takes, and the tokens of one denoiser forward."""
    contract = spec.latent
    frames = contract.latent_frames(workload.frames) * contract.temporal_compression  # a clip cut into windows has more
    sizes = (frames, workload.height, workload.width, contract.channels)
    compression = (contract.spatial_compression, contract.temporal_compression)
    closed = estimate_video_latent_memory(*sizes, *compression, batch_size=workload.batch, dtype=workload.dtype)
    return closed | {"tokens_per_video": spec.tokens(workload)}
