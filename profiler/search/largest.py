"""The largest of one free size that fits, in steps of the model's own rule.

Between a size that fits and one that does not, the next one tried is where a line through the last two peaks meets the
card: a peak grows with each of the sizes alone (tests/search). The found size and the next one are asked themselves.
"""

from bisect import bisect_right
from collections.abc import Callable
from functools import cache
from typing import Any

from profiler.errors import UserError
from profiler.models.size_rules import step_and_first
from profiler.search.question import SIZES, Question
from profiler.search.trial import Trial

FREE = (*SIZES, "batch")
MOST_TIMES, MOST_BATCH = 4, 64  # of the published size; clips or images at once
MOSTLY = 0.9  # of a card: the rest is what the allocator caches, and layers of the denoiser
MOST_WHOLE = 4  # traces of whole generations
GUESSES = 6  # of where a line meets the card; then the span is halved
Look = Callable[[int], tuple[bool, int | None]]  # whether a size fits, and its bytes, None where they are not known


def sizes_of(question: Question, free: str) -> range:
    """The sizes that a model takes, up to `MOST_TIMES` that of the question. Raises UserError for one not free to choose."""
    step, first = _step_and_first(question, free)
    most = MOST_BATCH if free == "batch" else MOST_TIMES * question.size[free]
    return range(first or step, max(first or step, most) + 1, step)


def below(sizes: range, size: float) -> int:
    """The index of the largest of `sizes` that is not above `size`, of the least where all are."""
    return max(0, bisect_right(sizes, size) - 1)


def _step_and_first(question: Question, free: str) -> tuple[int, int]:
    model = question.model
    if free == "batch":
        return 1, 0
    if model is None:
        raise UserError(f"{free}: max needs a pipeline of the catalog, whose rules for sizes are known; give a number")
    denoiser = model.denoiser if question.stage in ("generate", "denoise", "patch-embed") else None
    if denoiser and free in denoiser.fixed:
        raise UserError(f"{free}: {model.id} takes {getattr(model.default, free)} only: nothing to search")
    if free == "frames":
        rule = model.frame_rule("denoise" if denoiser else "decode")
        if rule == "image":
            raise UserError(f"frames: {model.id} is an image model: nothing to search")
        return (1, 0) if rule == "any" else step_and_first(rule)
    step, first = step_and_first(getattr(model.latent, f"{free}_rule") or f"{model.latent.spatial_compression}k")
    return max(step, denoiser.multiple_of if denoiser else 1), first


def largest(
    question: Question,
    free: str,
    ask: Callable[[Question], Trial],
    denoiser: Callable[[Question], int | None] = lambda _: None,
) -> tuple[Question, dict[str, Any]]:
    """The question at the largest size that fits, else as it was, and what was found, as JSON has it.

    `ask` tries a question of another size; `denoiser` says in a second what the denoiser of a whole generation takes at
    least, None for a stage. `value` is the largest size that fits, None where not even the least does; `next` is a larger
    one that does not, None where the largest of `sizes_of` fits; `untried` is how many are between the two.
    """
    sizes, capacity = sizes_of(question, free), question.capacity
    known: dict[int, Trial] = {}

    @cache
    def at(k: int) -> Question:
        return question.resized(**{free: sizes[k]})

    def look(k: int) -> tuple[bool, int | None]:
        known[k] = trial = ask(at(k))
        return trial.fits, trial.allocated if trial.found else None

    def alone(k: int) -> int:
        return denoiser(at(k)) or 0

    def look_alone(k: int) -> tuple[bool, int]:
        return alone(k) <= capacity - beside, alone(k)

    lo, hi = -1, len(sizes)
    k = below(sizes, question.batch if free == "batch" else question.size[free])
    if denoiser(question) is None:
        lo, hi = _boundary(lo, hi, k, sizes, capacity, look)
    # A trace of a whole generation takes long. What stands beside the denoiser's tensors is the same at every size, nearly:
    # at first a share of the card is taken for it, then what the last trace says.
    beside = int((1 - MOSTLY) * capacity)
    while hi - lo > 1 and len(known) < MOST_WHOLE:
        guess, _ = _boundary(lo, hi, k, sizes, capacity - beside, look_alone)
        k = min(max(guess, lo + 1), hi - 1)
        fits, allocated = look(k)
        lo, hi = (k, hi) if fits else (lo, k)
        if allocated is not None:  # what the allocator keeps counts only where it is in the way
            beside = (allocated if fits or allocated > capacity else known[k].reserved) - alone(k)
    above = known.get(hi)
    return question if lo < 0 else at(lo), {
        "free": free,
        "value": None if lo < 0 else sizes[lo],
        "next": sizes[hi] if above else None,
        "missing_bytes": max(0, -above.headroom) if above and above.found else None,
        "why_not": above.why_not if above else "",
        "untried": hi - lo - 1 if above else None,
    }


def _boundary(lo: int, hi: int, k: int, sizes: range, capacity: int, look: Look) -> tuple[int, int]:
    """The last index that fits and the next one, which does not, between `lo` and `hi`; `look` is asked from `k` on."""
    seen: dict[int, int] = {}
    while hi - lo > 1:
        k = min(max(k, lo + 1), hi - 1)
        fits, size = look(k)
        lo, hi = (k, hi) if fits else (lo, k)
        if size is not None:
            seen[sizes[k]] = size
        guess = _crossing(seen, capacity) if len(seen) <= GUESSES else None
        k = (lo + hi) // 2 if guess is None else below(sizes, guess)
    return lo, hi


def _crossing(seen: dict[int, int], capacity: int) -> float | None:
    """Where a line through the two sizes that come nearest to the card meets its capacity; twice or half of a single one."""
    nearest = sorted(seen, key=lambda size: abs(seen[size] - capacity))[:2]
    if len(nearest) < 2:
        return next((2 * size if taken <= capacity else size / 2 for size, taken in seen.items()), None)
    a, b = nearest
    slope = (seen[b] - seen[a]) / (b - a)
    return a + (capacity - seen[a]) / slope if slope > 0 else None
