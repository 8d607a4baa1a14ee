"""The phases of a generation, read off which component ran when: nothing here knows a pipeline by name.

Text encoders run before the loop; the loop is what runs between two steps of the scheduler; what comes after it decodes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

STEP = "scheduler"  # the name of the mark of a scheduler's step
LOOP = ("first step", "later steps")
# The phases that a stage's name stands for within a generation; none for all.
STAGES = {
    "generate": (), "text-encode": ("text encode",), "encode": ("image encode",), "sample": LOOP, "denoise": LOOP,
    "decode": ("decode",), "postprocess": ("post-process",),
}  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """A component ran from event `start` up to `stop`, on behalf of the pipeline."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Span:
    """A phase: the events from `start` up to `stop`. `call` is 0 for the load, then 1, 2."""

    name: str
    call: int
    start: int
    stop: int


def spans_of(marks: Sequence[Mark], load: int, first: int, end: int) -> tuple[Span, ...]:
    """The phases of a load up to event `load`, of a first call up to `first` and a second one up to `end`; none is empty."""
    spans = [Span("load", 0, 0, load)]
    for call, (start, stop) in enumerate(((load, first), (first, end)), start=1):
        inside = [mark for mark in marks if start <= mark.start and mark.stop <= stop]
        cuts = [(max(start, at), name) for name, at in _cuts(inside, start)]
        for (begin, name), (until, _) in zip(cuts, [*cuts[1:], (stop, "")], strict=True):
            spans.append(Span(name, call, begin, until))
    return tuple(span for span in spans if span.start < span.stop)


def _cuts(marks: list[Mark], start: int) -> Iterator[tuple[str, int]]:
    """Where phases of one call begin, in order."""
    steps = [mark for mark in marks if mark.name == STEP]
    runs = [mark for mark in marks if mark.name != STEP]
    if not steps:
        yield from _by_component(runs, start)
        return
    inner = {mark.name for mark in runs if steps[0].stop <= mark.start < steps[-1].start}
    before = [mark for mark in runs if mark.start < steps[0].start]
    inner = inner or {mark.name for mark in before[-1:]}
    loop = min((mark.start for mark in before if mark.name in inner), default=steps[0].start)
    yield from _by_component([mark for mark in before if mark.start < loop], start)
    yield LOOP[0], loop
    yield LOOP[1], steps[0].stop
    after = [mark for mark in runs if mark.start >= steps[-1].stop]
    if after:  # what leads to it belongs to the loop: a component that is evicted is still there
        yield "decode", after[0].start
    yield "post-process", max((mark.stop for mark in after), default=steps[-1].stop)


def _by_component(runs: list[Mark], start: int) -> Iterator[tuple[str, int]]:
    """Before the loop: what lies between two components belongs to the one that ran."""
    name = "prepare"
    for number, mark in enumerate(runs):
        kind = "text encode" if "text_encoder" in mark.name else mark.name
        kind = "image encode" if kind in ("vae", "image_encoder") else kind
        if not number or kind != name:
            yield kind, mark.start if number else start
        name = kind
    if not runs:
        yield name, start
