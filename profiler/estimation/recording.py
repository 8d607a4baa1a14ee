"""A trace as a function of size and batch: made of traces at a few sizes, replayed at any other without torch.

A trace at another size has the same events with other shapes, as long as no decision inside the model or a kernel depends
on the size. `size_functions.py` writes every dimension as a function. What rules compute from a whole call (`prices.py`) is
asked again instead, which also makes a recording one for every card; another path than recorded is `Elsewhere`.

A block has a kind, which says all but its birth's op. A birth is `~kind`, a death how many births ago the block was born,
a birth's op how many ops after that of the birth before: the layers of a model then repeat the same numbers, and pack well.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate, pairwise
from math import prod
from typing import Any

from profiler.data.events import Block, Stream
from profiler.data.records import AppliedOption
from profiler.data.stack import Stack
from profiler.estimation.answer import Traced
from profiler.estimation.size_functions import Grid, Size, SizeFunctions, value_at
from profiler.estimation.slots import Slots
from profiler.kernels.attention import Attention
from profiler.kernels.convolution import Convolution
from profiler.kernels.gemm import Product
from profiler.kernels.prices import Elements, Elsewhere, Price, Prices
from profiler.kernels.reduction import Reduction

CALLS: dict[str, type[Any]] = {
    "convolution": Convolution,
    "attention": Attention,
    "elements": Elements,
    "reduction": Reduction,
    "product": Product,
}


def record(grid: Grid, found: Mapping[Size, Traced]) -> dict[str, Any]:
    """The recording of traces at the sizes that decide `grid`'s functions, in their order, and at more. Raises Elsewhere."""
    first, *others = seen = list(found.values())
    if first.events.cache_emptied_at:
        raise Elsewhere  # positions among events that a replay may leave out
    for other in others:
        if other.events.events != first.events.events or (other.options, other.notes) != (first.options, first.notes):
            raise Elsewhere
    functions = SizeFunctions(grid, list(found))
    ops: dict[tuple[str, str], int] = {}
    kinds: dict[Any, int] = {}
    described: list[Any] = []
    kind_of, op_of = [], []
    for same in zip(*(o.events.blocks for o in seen), strict=True):
        key = tuple((b.bytes, b.shape, b.dtype, b.term, b.phase, b.price) for b in same)
        if key not in kinds:
            kinds[key] = len(kinds)
            described.append(_kind(functions, same, key))
        kind_of.append(kinds[key])
        op_of.append(_op(same, seen, ops))
    return {
        "grid": asdict(grid),
        "kinds": described,
        "events": list(_relative(first.events.events, kind_of)),
        "op_steps": [op - before for before, op in pairwise([0, *op_of])],
        "ops": list(ops),
        "options": {name: asdict(option) for name, option in first.options.items()},
        "notes": first.notes,
        "output_shapes": functions.of([o.output_shapes for o in seen]),
        "functions": functions.functions,
    }


def _relative(events: Iterable[int], kind_of: Sequence[int]) -> Iterator[int]:
    """Births by their kinds, deaths by the number of births since the block's own."""
    births = 0
    for event in events:
        births += event >= 0
        yield ~kind_of[event] if event >= 0 else births - ~event


def _op(same: Sequence[Block], seen: Sequence[Traced], ops: dict[tuple[str, str], int]) -> int:
    """The number of the op of a birth, which is the same at every size; -1 for none. Raises Elsewhere."""
    found = {traced.events.ops[block.op] if block.op >= 0 else None for block, traced in zip(same, seen, strict=True)}
    if len(found) > 1:
        raise Elsewhere
    op = found.pop()
    return -1 if op is None else ops.setdefault(op, len(ops))


def _kind(functions: SizeFunctions, same: Sequence[Block], key: Sequence[Any]) -> list[Any]:
    """What births of one kind have in common: bytes, shape, dtype, term, phase, price."""
    labels = {fact[2:5] for fact in key}
    if len(labels) > 1:
        raise Elsewhere
    dtype, term, phase = labels.pop()
    if same[0].price is not None:
        return [0, [0], dtype, term, phase, functions.of([_plain(block.price) for block in same])]
    shape = functions.of([block.shape for block in same])
    # Bytes are so many for each element: those of attention scores are no function of the four.
    elements = [prod(block.shape) for block in same]
    item, rest = divmod(same[0].bytes, elements[0] or 1)
    if not rest and all(block.bytes == item * n for block, n in zip(same, elements, strict=True)):
        return [[item], shape, dtype, term, phase, None]
    return [functions.of([block.bytes for block in same]), shape, dtype, term, phase, None]


def _plain(price: Price) -> dict[str, Any]:
    return vars(price) | {"rule": type(price.call).__name__.lower(), "call": vars(price.call)}


def grid_of(recording: dict[str, Any]) -> Grid:
    """The sizes for which a recording holds."""
    grid = recording["grid"]
    first, step, last = (tuple(grid[name]) for name in ("first", "step", "last"))
    apart, pixels = tuple(map(tuple, grid.get("apart", ()))), grid.get("pixels")
    return Grid(first, step, last, grid["batch"], grid["most"], apart, tuple(pixels) if pixels else None)


def replay(recording: dict[str, Any], size: Size, stack: Stack) -> Traced:
    """What a trace at `size`, on the grid, would find. Raises Elsewhere if another path is taken there or on this card,
    NoKernelError where no attention kernel can run."""
    grid = grid_of(recording)
    if not grid.holds(size):
        raise Elsewhere
    values = [value_at(grid, function, size) for function in recording["functions"]]
    routes: Counter[str] = Counter()
    prices = Prices(stack, routes)
    try:
        kinds = [_evaluate(kind, values) for kind in recording["kinds"]]
        slots = _filled(recording, kinds, prices)
    finally:
        prices.planner.close()
    stream = Stream(slots.blocks, slots.events, [tuple(op) for op in recording["ops"]])
    options = {name: AppliedOption(**option) for name, option in recording["options"].items()}
    shapes = _resolved(recording["output_shapes"], values)
    answered = prices.planner.sources, prices.unplanned_bytes
    return Traced(stream, routes, options, shapes, recording["notes"], *answered)


Kind = tuple[int, tuple[int, ...], str, str, str, Price | None]


def _evaluate(kind: list[Any], values: list[int]) -> Kind:
    size, shape, dtype, term, phase, price = kind
    if price is not None:
        asked = _resolved(price, values)
        call = CALLS[asked.pop("rule")](**asked.pop("call"))
        return 0, (), dtype, term, phase, Price(call, **asked)
    shape = _resolved(shape, values)
    if isinstance(size, list):
        size = size[0] * prod(shape)
    return size if size >= 0 else values[~size], shape, dtype, term, phase, None


def _filled(recording: dict[str, Any], kinds: list[Kind], prices: Prices) -> Slots:
    slots = Slots(prices)
    ops = accumulate(recording["op_steps"])
    for event in recording["events"]:
        if event > 0:
            slots.give_back(len(slots.held) - event)
            continue
        size, shape, dtype, term, phase, price = kinds[~event]
        slots.take(size, shape, price, op=next(ops), dtype=dtype, term=term, phase=phase)
    return slots


def _resolved(value: Any, values: list[int]) -> Any:
    if type(value) is int:
        return value if value >= 0 else values[~value]
    if isinstance(value, list):
        return tuple([_resolved(item, values) for item in value])
    if isinstance(value, dict):
        return {name: _resolved(item, values) for name, item in value.items()}
    return value
