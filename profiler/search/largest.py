"""The largest of one free size that fits, in steps of the model's own rule; and smaller ones where nothing fits.

Between a size that fits and one that does not, the next one tried is where a line through the last two peaks meets the
card: a peak grows with each of the sizes alone (tests/search). The found size and the next one are asked themselves.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import product

from profiler.errors import UserError
from profiler.models.size_rules import step_and_first
from profiler.search.question import Question
from profiler.search.trial import Trial

FREE = ("frames", "height", "width", "batch")
MOST_TIMES = 4  # the published size
MOSTLY = 0.9  # of a card: the rest is what the allocator caches, and layers of the denoiser
MOST_WHOLE = 4  # traces of whole generations
GUESSES = 6  # of where a line meets the card; then the span is halved
SMALLER = (3 / 4, 1 / 2, 1 / 4)
Span = tuple[int, int]


@dataclass(frozen=True)
class Found:
    """The largest size that fits, a larger one that does not with its trial, and how many sizes between were not tried.

    None for no size that fits, or for no larger one tried. `question` is that of the size that fits, with its trials.
    """

    value: int | None
    question: Question
    following: int | None
    above: Trial | None
    untried: int


@dataclass(frozen=True)
class Seen:
    """Whether one size fits, and what it has allocated; None where the size was refused."""

    fits: bool
    allocated: int | None


@dataclass(frozen=True)
class Steps:
    """The sizes that a model takes of one kind: `first + k * step`, for k from `least` on."""

    step: int
    first: int
    least: int

    def size(self, k: int) -> int:
        """The size number k."""
        return self.first + k * self.step

    def below(self, size: float) -> int:
        """The number of the largest size that is not above `size`."""
        return max(self.least, int((size - self.first) // self.step))


def steps_of(question: Question, free: str) -> Steps:
    """The steps of one size. Raises UserError for a size that is not free to choose."""
    model = question.model
    if free == "batch":
        return Steps(1, 0, 1)
    if model is None:
        raise UserError(f"{free}: max needs a pipeline of the catalog, whose rules for sizes are known; give a number")
    denoiser = model.denoiser if question.stage in ("generate", "denoise", "patch-embed") else None
    if denoiser and free in denoiser.fixed:
        raise UserError(f"{free}: {model.id} takes {getattr(model.default, free)} only: nothing to search")
    if free == "frames":
        rule = model.frame_rule("denoise" if denoiser else "decode")
        if rule == "image":
            raise UserError(f"frames: {model.id} is an image model: nothing to search")
        if rule == "any":
            return Steps(1, 0, 1)
        step, first = step_and_first(rule)
        return Steps(step, first, 0 if first else 1)
    contract = model.latent
    own = contract.height_rule if free == "height" else contract.width_rule
    step, first = step_and_first(own) if own else (contract.spatial_compression, 0)
    return Steps(max(step, denoiser.multiple_of if denoiser else 1), first, 1)


def largest(
    question: Question,
    free: str,
    ask: Callable[[Question], Trial],
    least: Callable[[Question], int | None] = lambda _: None,
) -> Found:
    """The largest size that fits, and what was tried beside it.

    `ask` tries a question of another size, `least` says cheaply what it takes at least, or None. No size where not even the
    least one fits; no larger one where the limit of `MOST_TIMES` the published size fits.
    """
    steps = steps_of(question, free)
    start = question.batch if free == "batch" else question.size[free]
    span = steps.least - 1, max(steps.below(start * MOST_TIMES), steps.least) + 1
    known: dict[int, Trial] = {}

    @cache
    def at(k: int) -> Question:
        return question.resized(**{free: steps.size(k)})

    def tried(k: int) -> Seen:
        known[k] = ask(at(k))
        return Seen(known[k].fits, known[k].allocated if known[k].found else None)

    first, capacity = steps.below(start), question.capacity
    if least(question) is None:
        lo, hi = _boundary(span, first, capacity, tried)
    else:
        lo, hi = _by_the_denoiser(span, first, capacity, lambda k: least(at(k)) or 0, tried, known)
    value, one = (steps.size(lo), at(lo)) if lo >= steps.least else (None, question)
    return Found(value, one, steps.size(hi) if hi in known else None, known.get(hi), hi - lo - 1)


def _boundary(span: Span, start: int, capacity: int, look: Callable[[int], Seen]) -> Span:
    """The last number that fits and the next one, which does not, between `span`'s two; `look` is asked a few times."""
    (lo, hi), k, seen = span, start, {}
    while hi - lo > 1:
        k = min(max(k, lo + 1), hi - 1)
        one = look(k)
        lo, hi = (k, hi) if one.fits else (lo, k)
        if one.allocated is not None:
            seen[k] = one.allocated
        guess = _crossing(seen, capacity) if len(seen) <= GUESSES else None
        k = (lo + hi) // 2 if guess is None else guess
    return lo, hi


def _by_the_denoiser(
    span: Span, start: int, capacity: int,
    least: Callable[[int], int], tried: Callable[[int], Seen], known: Mapping[int, Trial],
) -> Span:  # fmt: skip
    """The same of a whole generation, each of whose traces takes long: no more than `MOST_WHOLE` of them.

    The denoiser alone says where to look, since what stands beside its tensors is the same at every size, nearly: each
    trace says how much that is, and a share of the card is taken at first.
    """
    (lo, hi), beside = span, int((1 - MOSTLY) * capacity)
    while hi - lo > 1 and len(known) < MOST_WHOLE:
        room = capacity - beside
        k = min(max(_boundary((lo, hi), start, room, partial(_seen, least, room))[0], lo + 1), hi - 1)
        lo, hi = (k, hi) if tried(k).fits else (lo, k)
        if known[k].found:
            trial = known[k]  # what the allocator keeps counts only where it is in the way
            beside = (trial.allocated if trial.fits or trial.allocated > capacity else trial.reserved) - least(k)
        start = k
    return lo, hi


def _seen(least: Callable[[int], int], room: int, k: int) -> Seen:
    size = least(k)
    return Seen(size <= room, size)


def _crossing(seen: Mapping[int, int], capacity: int) -> int | None:
    """Where a line through the two sizes that come nearest to the card meets its capacity."""
    nearest = sorted(seen, key=lambda k: abs(seen[k] - capacity))[:2]
    if len(nearest) < 2:
        return next((2 * k if size <= capacity else k // 2 for k, size in seen.items()), None)
    a, b = nearest
    slope = (seen[b] - seen[a]) / (b - a)
    return int(a + (capacity - seen[a]) / slope) if slope > 0 else None


def smaller(question: Question) -> Iterator[Question]:
    """The same question at smaller sizes, the nearest first: one item, fewer frames of a clip, smaller sides."""
    if question.batch > 1:
        yield question.resized(batch=1)
    ways = [("frames",)] * (question.size["frames"] > 1) + [("height", "width")]
    for share, free in product(SMALLER, ways):
        try:
            steps = {name: steps_of(question, name) for name in free}
        except UserError:  # a size that the model fixes
            continue
        sizes = {name: one.size(one.below(question.size[name] * share)) for name, one in steps.items()}
        if sizes != {name: question.size[name] for name in free}:
            yield question.resized(**sizes)
