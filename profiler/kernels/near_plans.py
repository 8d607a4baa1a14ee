"""What cuDNN planned for a convolution of another size, taken apart and put together at the size in question.

A plan's workspace has parts, by the engine that runs it. An engine of channels-last data copies NCHW tensors into that
order; one that rounds fp32 to TF32 beforehand copies what it reads, in either order; one that splits the sum over
channels adds up partial results in fp32. Which engine runs depends on card, dtype, memory order, channels and kernel,
and far less on height and width. So the parts are read off the plan of the nearest size, and each grows with its tensor.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from math import log, prod

from profiler.data.stack import Stack
from profiler.data.units import ceil_div
from profiler.kernels.convolution import Convolution, copied_bytes, is_beyond_32_bit, output_of, within_32_bit
from profiler.kernels.cudnn_plans import CLOSED_FORM, Plans, question_of, shipped_plans, shipped_questions
from profiler.machine.cards import gpu_named
from profiler.machine.cards import planned as planned_cards

COPIES = tuple("".join(parts) for count in (3, 2, 1, 0) for parts in combinations("xyw", count))
COPIES_HEADER, SPLIT_HEADER = 16, 159  # bytes of a plan that copies anything, and of one that splits the sum
TILES = ((128, 128), (256, 128), (128, 256), (64, 64), (128, 64), (64, 128), (256, 64), (64, 32), (64, 256), (256, 32))
INDEX = 6  # bytes for each output position of a sample, in the tables of engines that gather their input by index


@dataclass(frozen=True)
class Parts:
    """What a plan's bytes are made of, for any size of its convolution.

    `copies` names which of x, y and w are copied, channels padded to 16 bytes or not. `partial` results in fp32, of whole
    tiles, have a counter of four bytes a tile, and one tile more. `table` bytes stand for each output position of a
    sample. The rest is of no size's making: headers, transformed weights, buffers for each multiprocessor.
    """

    copies: str = ""
    padded: bool = True
    partial: int = 0
    tile: tuple[int, int] = (128, 128)
    table: float = 0
    rest: int = 0

    def bytes(self, conv: Convolution) -> int:
        """All of them for one size of the convolution."""
        copied = copied_bytes(conv, self.copies, padded=self.padded)
        partial = partial_bytes(conv, self.partial, self.tile) if self.partial else 0
        return copied + partial + round(self.table * prod(conv.y[2:])) + self.rest


def partial_bytes(conv: Convolution, count: int, tile: tuple[int, int]) -> int:
    """The bytes of `count` partial results in whole tiles of so many rows and columns."""
    rows, columns = tile
    tiles = ceil_div(conv.y[0] * prod(conv.y[2:]), rows) * ceil_div(conv.y[1], columns)
    return 4 * (count * tiles * rows * columns + (count + 1) * tiles)


def parts_of(conv: Convolution, planned: int) -> Parts:
    """The parts that explain a plan's bytes: a table, partial results to the byte, or the copies that leave least over."""
    positions = prod(conv.y[2:])
    if any(0 <= planned / positions - tables * INDEX < tables / 4 for tables in (1, 2, 3)):
        return Parts(table=planned / positions)
    tiled = [(tile, partial_bytes(conv, 1, tile), partial_bytes(conv, 2, tile)) for tile in TILES]
    for copies in COPIES:
        whole = Parts(copies, rest=SPLIT_HEADER + (COPIES_HEADER if copies else 0))
        left = planned - whole.bytes(conv)
        for tile, one, two in tiled:
            partial, over = divmod(left - one, two - one)
            if partial >= 0 and over == 0:
                return replace(whole, partial=partial + 1, tile=tile)
    copied = (Parts(copies, padded) for padded in (True, False) for copies in COPIES)
    least = min((parts for parts in copied if parts.bytes(conv) <= planned), key=lambda parts: -parts.bytes(conv))
    return replace(least, rest=planned - least.bytes(conv))


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
    dtype, _, alike = question_of(conv, tf32=stack.tf32).split(" ", 2)
    found = _plans(stack.capability, stack.gpu, dtype, alike)
    shape = (conv.x[0], *conv.x[2:])
    sizes = [size for size in found if size != shape or not CLOSED_FORM.get()]
    if not sizes:
        return None
    size = min(sizes, key=lambda size: _distance(size, shape))
    x = (size[0], conv.x[1], *size[1:])
    known = output_of(conv, x)
    return parts_of(known, found[size]).bytes(conv)


def _distance(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """Mostly the ratio of positions, by which engines are chosen; then that of samples, and of each side.

    cuDNN looks at the batch by itself: a consumer Blackwell copies four channels from four samples on, at any size. The two
    weights are fitted, on plans of an H200 and an RTX 5090 at random kinds and sizes; an L40S and an RTX 3090 were in view.
    """
    samples, *sides = (abs(log(m / n)) for m, n in zip(a, b, strict=True))
    return abs(log(prod(a) / prod(b))) + 0.35 * samples + 0.1 * sum(sides)


@cache
def _plans(capability: tuple[int, int], gpu: str | None, dtype: str, alike: str) -> dict[tuple[int, ...], int]:
    """Shipped plans of a card, else of one of its architecture, for one kind of convolution: by batch and size.

    `alike` is what follows x in a question, and says the channels as well.
    """
    plans = _plans_of(capability, gpu)
    found: dict[tuple[int, ...], int] = {}
    for x in _tensors(dtype).get(alike, ()):
        if (planned := plans.get(f"{dtype} {x} {alike}")) is not None:
            batch, _, *size = map(int, x.split(","))
            found[batch, *size] = planned
    return found


@cache
def _plans_of(capability: tuple[int, int], gpu: str | None) -> Plans:
    own = gpu_named(gpu)
    if own and own.capability == capability and (plans := shipped_plans(own)):  # the files of other cards are not read
        return plans
    cards = [card for card in planned_cards() if card.capability == capability]
    return shipped_plans(sorted(cards, key=lambda card: card.name == gpu)[-1]) if cards else {}


@cache
def _tensors(dtype: str) -> dict[str, list[str]]:
    """What stands for x in the shipped questions of a dtype, by what follows it."""
    found = defaultdict[str, list[str]](list)
    for question in shipped_questions():
        if question.startswith(f"{dtype} "):
            _, x, alike = question.split(" ", 2)
            found[alike].append(x)
    return found
