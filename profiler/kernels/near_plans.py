"""What cuDNN planned for a convolution of another size, taken apart and put together at the size in question.

A plan's workspace has parts, by the engine that runs it. An engine of channels-last data copies NCHW tensors into that
order; one that rounds fp32 to TF32 beforehand copies what it reads, in either order; one that splits the sum over
channels adds up partial results in fp32. Which engine runs depends on card, dtype, memory order, channels and kernel,
and far less on height and width. So the parts are read off the plan of the nearest size, and each grows with its tensor.
"""

from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from math import log, prod

from profiler.data.stack import Stack
from profiler.data.units import round_up
from profiler.kernels.convolution import Convolution, is_beyond_32_bit, output_of, within_32_bit
from profiler.kernels.cudnn_plans import CLOSED_FORM, digest, question_of, shipped_plans
from profiler.machine.cards import gpus

MOST_PARTIAL = 16  # partial results that a plan is taken apart into
SMALL = 4096  # what headers, counters and the like may take besides the parts
COPIES = tuple("".join(parts) for count in (3, 2, 1, 0) for parts in combinations("xyw", count))
INDEX = 6  # bytes for each output position of a sample, in the tables of engines that gather their input by index


@dataclass(frozen=True)
class Parts:
    """Which of x, y and w a plan copies, channels padded to 16 bytes or not, how many results in fp32 it adds up, the
    bytes that it has for each element of the result (counters) or position (tables), and the rest, of no size's making.
    """

    copies: str = ""
    padded: bool = True
    partial: int = 0
    each_element: float = 0
    each_position: float = 0
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
        grown = self.each_element * prod(conv.y) + self.each_position * prod(conv.y[2:])
        return copied + 4 * self.partial * prod(conv.y) + round(grown) + self.rest


def parts_of(conv: Convolution, planned: int) -> Parts:
    """The parts that explain a plan's bytes with the fewest partial results, else those that leave the smallest rest."""
    positions = prod(conv.y[2:])
    if any(0 <= planned / positions - tables * INDEX < tables / 4 for tables in (1, 2, 3)):
        return Parts(each_position=planned / positions)
    best = Parts(rest=planned)
    for partial in range(MOST_PARTIAL + 1):
        for padded in (True, False):
            for copies in COPIES:
                rest = planned - Parts(copies, padded, partial).bytes(conv)
                if 0 <= rest < best.rest:
                    best = Parts(copies, padded, partial, rest=rest)
        if best.rest < SMALL:
            break
    if best.partial:
        return replace(best, each_element=best.rest / prod(conv.y), rest=0)
    return best


def near_plan(conv: Convolution, stack: Stack) -> int | None:
    """What `conv` borrows by the plan of the nearest size on a card of the same architecture; None where there is none.

    Near in the number of positions, with the same weight, stride, padding, groups, memory order and dtype. Cards of one
    architecture plan alike (of 12,061 shipped plans all are equal, but for 1 % between H100 and H200), so one without
    plans, or without a property record, takes those of another. Plans of the same size are left out where
    `CLOSED_FORM` is set.
    """
    if stack.capability is None or conv.transposed or is_beyond_32_bit(conv):
        return None
    conv = within_32_bit(conv)
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
