"""The largest of one free size that fits, in steps of the model's own rule.

Between a size that fits and one that does not, the next one tried is where a line through the last two peaks meets the
card: a peak grows with each of the sizes alone (tests/search). The found size and the next one are asked themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from profiler.errors import UserError
from profiler.models.size_rules import step_and_first
from profiler.search.question import SIZES, Question
from profiler.search.trial import Trial

FREE = (*SIZES, "batch")
MOST_TIMES = 4  # the published size
MOSTLY = 0.9  # of a card: the rest is what the allocator caches, and layers of the denoiser
MOST_WHOLE = 4  # traces of whole generations
GUESSES = 6  # of where a line meets the card; then the span is halved
Look = Callable[[int], tuple[bool, int | None]]  # whether a number fits, and its bytes, None where they are not known


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
        step, first = (1, 0) if rule == "any" else step_and_first(rule)
        return Steps(step, first, 0 if first else 1)
    own = getattr(model.latent, f"{free}_rule") or f"{model.latent.spatial_compression}k"
    step, first = step_and_first(own)
    return Steps(max(step, denoiser.multiple_of if denoiser else 1), first, 1)


def largest(
    question: Question,
    free: str,
    ask: Callable[[Question], Trial],
    least: Callable[[Question], int | None] = lambda _: None,
) -> Found:
    """The largest size that fits, and what was tried beside it.

    `ask` tries a question of another size. `least` says in a second what the denoiser of a whole generation takes at that
    size, or None. No size where not even the least one fits; no larger one where the limit of `MOST_TIMES` the published
    size fits.
    """
    steps, capacity = steps_of(question, free), question.capacity
    start = question.batch if free == "batch" else question.size[free]
    lo, hi = steps.least - 1, max(steps.below(start * MOST_TIMES), steps.least) + 1
    known: dict[int, Trial] = {}

    @cache
    def at(k: int) -> Question:
        return question.resized(**{free: steps.size(k)})

    def look(k: int) -> tuple[bool, int | None]:
        known[k] = trial = ask(at(k))
        return trial.fits, trial.allocated if trial.found else None

    def alone(k: int) -> int:
        return least(at(k)) or 0

    k = steps.below(start)
    if least(question) is None:
        lo, hi = _boundary(lo, hi, k, capacity, look)
    # A trace of a whole generation takes long. What stands beside the denoiser's tensors is the same at every size, nearly:
    # at first a share of the card is taken for it, then what the last trace says.
    beside = int((1 - MOSTLY) * capacity)
    while hi - lo > 1 and len(known) < MOST_WHOLE:
        room = capacity - beside
        guess, _ = _boundary(lo, hi, k, room, _within(room, alone))
        k = min(max(guess, lo + 1), hi - 1)
        fits, allocated = look(k)
        lo, hi = (k, hi) if fits else (lo, k)
        if allocated is not None:  # what the allocator keeps counts only where it is in the way
            beside = (allocated if fits or allocated > capacity else known[k].reserved) - alone(k)
    value, one = (steps.size(lo), at(lo)) if lo >= steps.least else (None, question)
    return Found(value, one, steps.size(hi) if hi in known else None, known.get(hi), hi - lo - 1)


def _within(room: int, size: Callable[[int], int]) -> Look:
    return lambda k: (size(k) <= room, size(k))


def _boundary(lo: int, hi: int, k: int, capacity: int, look: Look) -> tuple[int, int]:
    """The last number that fits and the next one, which does not, between `lo` and `hi`; `look` is asked from `k` on."""
    seen: dict[int, int] = {}
    while hi - lo > 1:
        k = min(max(k, lo + 1), hi - 1)
        fits, size = look(k)
        lo, hi = (k, hi) if fits else (lo, k)
        if size is not None:
            seen[k] = size
        guess = _crossing(seen, capacity) if len(seen) <= GUESSES else None
        k = (lo + hi) // 2 if guess is None else guess
    return lo, hi


def _crossing(seen: dict[int, int], capacity: int) -> int | None:
    """Where a line through the two sizes that come nearest to the card meets its capacity."""
    nearest = sorted(seen, key=lambda k: abs(seen[k] - capacity))[:2]
    if len(nearest) < 2:
        return next((2 * k if size <= capacity else k // 2 for k, size in seen.items()), None)
    a, b = nearest
    slope = (seen[b] - seen[a]) / (b - a)
    return int(a + (capacity - seen[a]) / slope) if slope > 0 else None
