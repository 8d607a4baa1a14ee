"""A trace as a function of size and batch: made of traces at a few sizes, replayed at any other without torch.

A trace at another size has the same events with other shapes, as long as no decision inside the model or a kernel depends
on the size. `fit.py` writes every dimension as a function. What rules compute from a whole call (`prices.py`) is not fitted
but asked again, which also makes a recording one for every card; another path than recorded is `Elsewhere`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import prod
from typing import Any

from profiler.data.events import Block, Events, Stream
from profiler.data.records import AppliedOption
from profiler.data.stack import Stack
from profiler.estimation.answer import Traced
from profiler.estimation.fit import Fit, Grid, Size, value_at
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
    grid = recording["grid"]
    first, step, last = (tuple(grid[name]) for name in ("first", "step", "last"))
    return Grid(first, step, last, grid["batch"], grid["most"])


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
        size, shape, dtype, term, phase, op, price = kinds[kind_of[slot]]
        taken.append([])
        for one in prices.sizes(price) if price else (size,) if size else ():
            if not one:
                release(taken[-1].pop())
                continue
            number, shape = len(blocks), (one,) if price else shape
            blocks.append(Block(number, one, op, shape, dtype, term, phase, len(events), None, price))
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
