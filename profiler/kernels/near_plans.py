"""What cuDNN planned for a convolution of another size, taken apart and put together at the size in question.

A plan's workspace has parts, by the engine that runs it. An engine of channels-last data copies NCHW tensors into that
order; one that rounds fp32 to TF32 beforehand copies what it reads, in either order; one that splits the sum over
channels adds up partial results in fp32. Which engine runs depends on card, dtype, memory order, channels and kernel,
and far less on height and width. So the parts are read off the plan of the nearest size, and each grows with its tensor.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import log, prod

from profiler.data.stack import Stack
from profiler.data.units import round_up
from profiler.kernels.convolution import Convolution, output_of
from profiler.kernels.cudnn_plans import CLOSED_FORM, digest, question_of, shipped_plans
from profiler.machine.cards import gpu_named, gpus

MOST_PARTIAL = 16  # partial results that a plan is taken apart into
TABLES = 4096  # bytes that a plan may have besides its parts and still be explained by them: headers, indices, counters
COPIES = tuple("".join(parts) for count in (3, 2, 1, 0) for parts in combinations("xyw", count))


@dataclass(frozen=True)
class Parts:
    """Which tensors a plan copies, channels padded to 16 bytes or not, how many fp32 results it adds up, and the rest."""

    copies: str
    padded: bool
    partial: int
    rest: int = 0

    def bytes(self, conv: Convolution) -> int:
        """All of them for another size of the convolution."""
        pad = 16 // conv.element_size if self.padded else 1
        elements = {
            "x": conv.x[0] * round_up(conv.x[1], pad) * prod(conv.x[2:]),
            "y": conv.y[0] * round_up(conv.y[1], pad) * prod(conv.y[2:]),
            "w": round_up(conv.weight[0], pad) * round_up(conv.weight[1], pad) * conv.kernel_volume,
        }
        copied = sum(elements[name] for name in self.copies) * conv.element_size
        return copied + self.partial * 4 * prod(conv.y) + self.rest


def parts_of(conv: Convolution, planned: int) -> Parts:
    """The parts that explain a plan's bytes with the fewest partial results, else those that leave the smallest rest."""
    best = Parts("", padded=True, partial=0, rest=planned)
    for partial in range(MOST_PARTIAL + 1):
        for padded in (True, False):
            for copies in COPIES:
                rest = planned - Parts(copies, padded, partial).bytes(conv)
                if 0 <= rest < best.rest:
                    best = Parts(copies, padded, partial, rest)
        if best.rest < TABLES:
            break
    return best


def near_plan(conv: Convolution, stack: Stack) -> int | None:
    """What `conv` borrows by the plan of the nearest size on a card of the same architecture; None where there is none.

    Near in the number of positions, with the same weight, stride, padding, groups, memory order and dtype. Cards of one
    architecture plan alike (of 12,061 shipped plans all are equal, but for 1 % between H100 and H200), so one without
    plans, or without a property record, takes those of another. Plans of the same size are left out where
    `CLOSED_FORM` is set.
    """
    if stack.capability is None:
        return None
    found = _index(*stack.capability).get(_kind(question_of(conv, tf32=stack.tf32).split()), {})
    shape = (conv.x[0], *conv.x[2:])
    sizes = [size for size in found if size != shape or not CLOSED_FORM.get()]
    if not sizes:
        return None
    size = min(sizes, key=lambda size: _distance(size, shape))
    x = (size[0], conv.x[1], *size[1:])
    known = output_of(conv, x)
    return parts_of(known, found[size]).bytes(conv)


def _distance(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """Mostly the ratio of positions, by which engines are chosen; of two that are as near, the one of like shape."""
    return abs(log(prod(a) / prod(b))) + 0.1 * sum(abs(log(m / n)) for m, n in zip(a, b, strict=True))


def _kind(fields: list[str]) -> tuple[str, ...]:
    """All of a question but batch and size."""
    dtype, x, *rest = fields
    return (dtype, x.split(",")[1], *rest)


@cache
def _index(major: int, minor: int) -> dict[tuple[str, ...], dict[tuple[int, ...], int]]:
    """Shipped plans of one architecture, by everything but the size, then by batch and size."""
    cards = [card for card in gpus().values() if card.capability == (major, minor) and card.properties]
    plans = next((found for card in cards if (found := shipped_plans(card.id, digest(card.properties)))), {})
    index: dict[tuple[str, ...], dict[tuple[int, ...], int]] = {}
    for question, planned in plans.items():
        if planned is not None:
            fields = question.split()
            batch, _, *size = map(int, fields[1].split(","))
            index.setdefault(_kind(fields), {})[batch, *size] = planned
    return index
