"""What would fit where nothing does: the smallest card that is sold, and the nearest smaller size on this one."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

from profiler.data.stack import Stack
from profiler.data.units import GIB, format_bytes
from profiler.errors import UserError
from profiler.machine.cards import Gpu, assumed_stack, cards_of, gpus
from profiler.search.largest import below, sizes_of
from profiler.search.pieces import VAE_PHASES
from profiler.search.question import Question
from profiler.search.trial import Trial

SMALLER = (3 / 4, 1 / 2, 1 / 4)
MOST_SMALLER = 2  # sizes of a whole generation, each a trace
MOST_CARDS = 3


def smallest_card(question: Question, leanest: Trial) -> str:
    """The smallest memory that cards are sold with on which the leanest way fits, for the one with least of it."""
    tried = 0
    for box in sorted({card.box_gib for card in gpus().values() if card.box_gib}):
        card = min(cards_of(box * GIB), key=lambda one: (unlike(one, question.stack), one.total_bytes))
        stack = assumed_stack(card, question.stack.torch, question.stack.cudnn)
        stack = replace(stack, settings=dict(question.stack.settings))
        other = replace(question, stack=stack, context_bytes=card.context_bytes, trials={})
        if other.capacity < leanest.allocated:
            continue
        if (trial := other.ask(leanest.setting)).fits:
            how = trial.setting.title
            return f"a card with {box} GiB, such as {card.id}: {format_bytes(trial.reserved)} reserved, {how}"
        if (tried := tried + 1) == MOST_CARDS:
            break
    return ""


def smaller_size(
    question: Question, leanest: Trial, ask: Callable[[Question], Trial], denoiser: Callable[[Question], int | None]
) -> str:
    """The nearest smaller size that runs here. Where the denoiser alone says that one is too large, it is not traced."""
    here, tried = denoiser(question), 0
    loop = [phase.peak.allocated_bytes or 0 for phase in leanest.estimate.phases if phase.name not in VAE_PHASES]
    beside = max(loop, default=0) - (here or 0)
    for one in smaller(question):
        if here is not None and (denoiser(one) or 0) + beside > leanest.capacity:
            continue
        if (trial := ask(one)).fits:
            title = trial.setting.title
            return f"{one.title} on this card, with {title}: {format_bytes(trial.reserved)} reserved"
        if question.whole and (tried := tried + 1) == MOST_SMALLER:
            break
    return ""


def smaller(question: Question) -> Iterator[Question]:
    """The same question at smaller sizes, the nearest first: one item, fewer frames of a clip, smaller sides."""
    if question.batch > 1:
        yield question.resized(batch=1)
    ways = [("frames",)] * (question.size["frames"] > 1) + [("height", "width")]
    for share, free in product(SMALLER, ways):
        try:
            choices = {name: sizes_of(question, name) for name in free}
        except UserError:  # a size that the model fixes
            continue
        sizes = {name: of[below(of, question.size[name] * share)] for name, of in choices.items()}
        if sizes != {name: question.size[name] for name in free}:
            yield question.resized(**sizes)


def unlike(card: Gpu, stack: Stack) -> int:
    """How far a card's architecture is from that of `stack`: kernels of neighbours are alike, a T4's attention is not."""
    (major, minor), (own, small) = card.capability, stack.capability or card.capability
    return abs(10 * (major - own) + minor - small)
