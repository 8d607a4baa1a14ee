"""The largest of one free size that fits, in steps of the model's own rule; and smaller ones where nothing fits.

Between a size that fits and one that does not, the next one tried is where a line through the last two peaks meets the
card: a peak grows with each of the sizes alone (tests/search). The found size and the two above it are asked themselves.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

from profiler.errors import UserError
from profiler.models.size_rules import step_and_first
from profiler.search.question import Question
from profiler.search.trial import Trial

FREE = ("frames", "height", "width", "batch")
MOST_TIMES = 4  # the published size
MOSTLY = 0.9  # of a card: the rest is what the allocator caches, and layers of the denoiser
SMALLER = (3 / 4, 1 / 2, 1 / 4)


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
    denoiser = (
        model.denoiser if question.whole or getattr(question, "stage", "") in ("denoise", "patch-embed") else None
    )
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
    question: Question, free: str, ask: Callable[[Question], Trial]
) -> tuple[int, int | None, Trial | None, Trial | None]:
    """The largest size that fits, the next one that does not, and the trials of both.

    `ask` tries a question of another size. No size where not even the least one fits; no next one where the limit of
    `MOST_TIMES` the published size fits.
    """
    steps = steps_of(question, free)
    start = question.batch if free == "batch" else question.size[free]
    lo, hi = steps.least - 1, max(steps.below(start * MOST_TIMES), steps.least) + 1
    known: dict[int, Trial] = {}
    k, tries = _promising(question, free, steps, start), 0
    while hi - lo > 1:
        k = min(max(k, lo + 1), hi - 1)
        known[k] = ask(question.resized(**{free: steps.size(k)}))
        tries += 1
        lo, hi = (k, hi) if known[k].fits else (lo, k)
        guess = _crossing(known) if tries <= 6 else None
        k = (lo + hi) // 2 if guess is None else guess
    if lo < steps.least:
        return 0, steps.size(hi), None, known.get(hi)
    return steps.size(lo), steps.size(hi) if hi in known else None, known[lo], known.get(hi)


def _promising(question: Question, free: str, steps: Steps, start: int) -> int:
    """Where to begin. Of a generation, where one forward of the denoiser would fill the card without its weights."""
    k = steps.below(start)
    if not question.whole or question.model is None or question.model.denoiser is None:
        return k
    few = max(steps.least, k // 2)
    made = []
    for each in {few, k}:
        one = question.of_denoiser().resized(**{free: steps.size(each)})
        if (trial := one.ask(one.base)).found is None:
            return k
        made.append((each, trial.allocated - (trial.estimate.terms.weights or 0)))
    if len(made) < 2 or made[0][1] == made[1][1]:
        return k
    (a, low), (b, high) = sorted(made)
    return int(a + (MOSTLY * question.capacity - low) * (b - a) / (high - low))


def _crossing(known: dict[int, Trial]) -> int | None:
    """Where a line through the two sizes that come nearest to the card meets its capacity."""
    found = sorted(
        ((abs(t.headroom), k, t.allocated) for k, t in known.items() if t.found), key=lambda one: (one[0], one[1])
    )[:2]
    if len(found) < 2:
        return next((2 * k if t.fits else k // 2 for k, t in known.items()), None)
    (_, a, low), (_, b, high) = found
    slope = (high - low) / (b - a)
    capacity = next(t.capacity for t in known.values() if t.found)
    return int(a + (capacity - low) / slope) if slope > 0 else None


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
