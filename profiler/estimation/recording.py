"""A trace as a function of height and width: made of traces at a few sizes, replayed at any other without torch.

A trace at another size has the same events with other shapes, as long as no decision inside the model or a kernel depends
on the size. Every dimension is then a + b*h + c*w + d*h*w, which four sizes decide: the corners of a rectangle. Further
sizes inside must agree to the byte, or there is no recording. It holds within the rectangle, at sizes of its grid. What
rules compute from a whole call (`prices.py`) is not fitted but asked again; another kernel than recorded is `Elsewhere`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from profiler.data.events import Block, Events, Stream
from profiler.data.records import AppliedOption
from profiler.data.stack import Stack
from profiler.estimation.answer import Traced
from profiler.kernels.attention import Attention
from profiler.kernels.convolution import Convolution
from profiler.kernels.prices import Elements, Price, Prices
from profiler.kernels.reduction import Reduction

CALLS: dict[str, type[Any]] = {
    "convolution": Convolution,
    "attention": Attention,
    "elements": Elements,
    "reduction": Reduction,
}
Sides = tuple[int, int]  # height and width: in pixels, or in steps of a grid


class Elsewhere(Exception):
    """The traces do not agree on one structure, or a size decides otherwise than the recorded ones."""


@dataclass(frozen=True)
class Grid:
    """Sizes `first + step * k` up to `last`, for height and width."""

    first: Sides
    step: Sides
    last: Sides

    def position(self, size: Sides) -> Sides | None:
        """Steps of `size` from the first; None if it is not on the grid."""
        steps = [divmod(n - first, step) for n, first, step in zip(size, self.first, self.step, strict=True)]
        inside = all(0 <= n - first <= last - first for n, first, last in zip(size, self.first, self.last, strict=True))
        return (steps[0][0], steps[1][0]) if inside and not any(rest for _, rest in steps) else None

    def corners(self) -> list[Sides]:
        """The four sizes that decide a function: low and high of both, width fastest."""
        return [(height, width) for height in (self.first[0], self.last[0]) for width in (self.first[1], self.last[1])]


def record(grid: Grid, found: Mapping[Sides, Traced]) -> dict[str, Any]:
    """The recording of traces at the grid's corners, in their order, and at further sizes. Raises Elsewhere."""
    first, *others = seen = list(found.values())
    if first.events.cache_emptied_at:
        raise Elsewhere  # positions among events that a replay may leave out
    for other in others:
        if other.events.events != first.events.events or (other.options, other.notes) != (first.options, first.notes):
            raise Elsewhere
    fit = Fit(grid, list(found))
    ops: dict[tuple[str, str], int] = {}
    kinds: dict[Any, int] = {}
    described: list[Any] = []
    blocks = []
    for same in zip(*(o.events.blocks for o in seen), strict=True):
        key = tuple(_facts(block, o.events) for block, o in zip(same, seen, strict=True))
        if key not in kinds:
            kinds[key] = len(kinds)
            described.append(_kind(fit, same, key, ops))
        blocks.append(kinds[key])
    return {
        "grid": asdict(grid),
        "kinds": described,
        "blocks": blocks,
        "events": [*first.events.events],
        "ops": list(ops),
        "options": {name: asdict(option) for name, option in first.options.items()},
        "notes": first.notes,
        "output_shapes": fit.of([o.output_shapes for o in seen]),
        "functions": fit.functions,
    }


class Fit:
    """Numbers that depend on the size, as one number each: itself if it never changes, else `~n` for function n."""

    def __init__(self, grid: Grid, sizes: Sequence[Sides]) -> None:
        positions = [grid.position(size) for size in sizes]
        self.positions = [position for position in positions if position is not None]
        assert len(self.positions) == len(sizes)
        assert sizes[:4] == grid.corners()
        self.functions: list[tuple[int, ...]] = []
        self._known: dict[tuple[int, ...], int] = {}

    def of(self, values: Sequence[Any]) -> Any:
        """Nested lists and dicts of such numbers for the same value at every size; other leaves must be equal."""
        first = values[0]
        if isinstance(first, (tuple, list)):
            if len({len(value) for value in values}) > 1:
                raise Elsewhere
            return [self.of(items) for items in zip(*values, strict=True)]
        if isinstance(first, dict):
            return {name: self.of([value[name] for value in values]) for name in first}
        if all(value == first for value in values):
            return first
        return self._function(tuple(values))

    def _function(self, values: tuple[int, ...]) -> int:
        if values in self._known:
            return self._known[values]
        (_, width), (height, _) = self.positions[1:3]
        a, along_width, along_height, corner = values[:4]
        b, c = (along_height - a) // height, (along_width - a) // width
        d = (corner - along_height - along_width + a) // (height * width)
        function = (a, b, c, d)
        if any(value_at(function, at) != value for at, value in zip(self.positions, values, strict=True)):
            raise Elsewhere
        self.functions.append(function)
        self._known[values] = ~(len(self.functions) - 1)
        return self._known[values]


def value_at(function: Sequence[int], position: Sides) -> int:
    """a + b*h + c*w + d*h*w, in steps of the grid."""
    (a, b, c, d), (h, w) = function, position
    return a + b * h + c * w + d * h * w


def _facts(block: Block, events: Events) -> Any:
    op = events.ops[block.op] if block.op >= 0 else None
    return (block.bytes, block.shape, block.dtype, block.term, block.phase, op, block.price)


def _kind(fit: Fit, same: Sequence[Block], key: Sequence[Any], ops: dict[tuple[str, str], int]) -> list[Any]:
    """What births of one kind have in common: bytes, shape, dtype, term, phase, op, price."""
    labels = {fact[2:6] for fact in key}
    if len(labels) > 1:
        raise Elsewhere
    dtype, term, phase, op = labels.pop()
    op = -1 if op is None else ops.setdefault(op, len(ops))
    if same[0].price is not None:
        return [0, [0], dtype, term, phase, op, fit.of([_plain(block.price) for block in same])]
    shape = fit.of([block.shape for block in same])
    # Bytes are so many for each element: those of attention scores are no function of the four.
    elements = [prod(block.shape) for block in same]
    item, rest = divmod(same[0].bytes, elements[0] or 1)
    if not rest and all(block.bytes == item * n for block, n in zip(same, elements, strict=True)):
        return [[item], shape, dtype, term, phase, op, None]
    return [fit.of([block.bytes for block in same]), shape, dtype, term, phase, op, None]


def _plain(price: Price) -> dict[str, Any]:
    return vars(price) | {"rule": type(price.call).__name__.lower(), "call": vars(price.call)}


def grid_of(recording: dict[str, Any]) -> Grid:
    """The sizes for which a recording holds."""
    return Grid(**{name: (size[0], size[1]) for name, size in recording["grid"].items()})


def replay(recording: dict[str, Any], size: Sides, stack: Stack) -> Traced:
    """What a trace at `size`, on the grid, would find. Raises Elsewhere if a kernel is chosen otherwise there."""
    position = grid_of(recording).position(size)
    if position is None:
        raise Elsewhere
    values = [value_at(function, position) for function in recording["functions"]]
    routes: Counter[str] = Counter()
    prices = Prices(stack, routes)
    try:
        kinds = [_evaluate(kind, values) for kind in recording["kinds"]]
        stream = Stream(*_blocks(recording, kinds, prices), [tuple(op) for op in recording["ops"]])
    finally:
        prices.planner.close()
    options = {name: AppliedOption(**option) for name, option in recording["options"].items()}
    shapes = _resolved(recording["output_shapes"], values)
    answered = prices.planner.sources, prices.unplanned_bytes
    return Traced(stream, routes, options, shapes, recording["notes"], *answered)


Kind = tuple[int, tuple[int, ...], str, str, str, int, Price | None]


def _evaluate(kind: list[Any], values: list[int]) -> Kind:
    size, shape, dtype, term, phase, op, price = kind
    if price is not None:
        asked = _resolved(price, values)
        call = CALLS[asked.pop("rule")](**asked.pop("call"))
        return 0, (), dtype, term, phase, op, Price(call, **asked)
    shape = _resolved(shape, values)
    if isinstance(size, list):
        size = size[0] * prod(shape)
    return size if size >= 0 else values[~size], shape, dtype, term, phase, op, None


def _sizes(kind: Kind, prices: Prices) -> tuple[int, ...]:
    """As `Prices.sizes`, which are asked for anew. Raises Elsewhere where attention takes another kernel than recorded."""
    size, *_, price = kind
    if price is None:
        return (size,) if size else ()
    if isinstance(price.call, Attention) and price.part is None:
        if prices.attention(price.call, price.allowed) != price.kernel:
            raise Elsewhere
        return ()
    return prices.sizes(price)


def _blocks(recording: dict[str, Any], kinds: list[Kind], prices: Prices) -> tuple[list[Block], list[int]]:
    """The stream without its empty slots."""
    blocks: list[Block] = []
    events: list[int] = []
    taken: list[list[int]] = []  # in each slot
    kind_of = recording["blocks"]

    def release(number: int) -> None:
        blocks[number].died = len(events)
        events.append(~number)

    for slot in recording["events"]:
        if slot < 0:
            for number in reversed(taken[~slot]):
                release(number)
            continue
        kind = kinds[kind_of[slot]]
        _, shape, dtype, term, phase, op, price = kind
        taken.append([])
        for size in _sizes(kind, prices):
            if not size:
                release(taken[-1].pop())
                continue
            number, shape = len(blocks), (size,) if price else shape
            blocks.append(Block(number, size, op, shape, dtype, term, phase, len(events), None, price))
            events.append(number)
            taken[-1].append(number)
    return blocks, events


def _resolved(value: Any, values: list[int]) -> Any:
    if type(value) is int:
        return value if value >= 0 else values[~value]
    if isinstance(value, list):
        return tuple([_resolved(item, values) for item in value])
    if isinstance(value, dict):
        return {name: _resolved(item, values) for name, item in value.items()}
    return value


def inner_sizes(grid: Grid, *wanted: Sides) -> Iterator[Sides]:
    """Sizes to check besides the corners: those wanted, and two that share no factor with the steps between corners."""
    yield from (size for size in wanted if grid.position(size) is not None)
    for part in (3, 5):
        height, width = (
            first + (last - first) // step // part * step
            for first, step, last in zip(grid.first, grid.step, grid.last, strict=True)
        )
        yield height + grid.step[0], width
