"""A trace as a function of size and batch: made of traces at a few sizes, replayed at any other without torch.

A trace at another size has the same events with other shapes, as long as no decision inside the model or a kernel depends
on the size. `size_functions.py` writes every dimension as a function. What rules compute from a whole call (`prices.py`) is
asked again instead, which also makes a recording one for every card; another path than recorded is `Elsewhere`.

A block has a kind, which says all but its birth's op. A birth is `~kind`, a death the block's place among those alive, a
birth's op how many ops after that of the birth before: the layers of a model then repeat the same numbers, and pack well.
What a causal coder does for each chunk of a clip is kept once, and taken as often as the clip is long (`turns.py`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate, pairwise
from math import prod
from typing import Any

from profiler.data.events import Block, Stream
from profiler.data.records import AppliedOption
from profiler.data.stack import Stack
from profiler.estimation.answer import Traced
from profiler.estimation.size_functions import Grid, Size, SizeFunctions, is_of_frames, value_at
from profiler.estimation.slots import Slots
from profiler.estimation.turns import Cycle, rolled, unrolled
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
    events, *further = [rolled(traced.events, grid.cycles, grid.more(size)) for size, traced in found.items()]
    for other, told in zip(others, further, strict=True):
        if told.events != events.events or (other.options, other.notes) != (first.options, first.notes):
            raise Elsewhere
    functions = SizeFunctions(grid, list(found))
    ops: dict[tuple[str, str], int] = {}
    kinds: dict[Any, int] = {}
    described: list[Any] = []
    kind_of, op_of = [], []
    for same in zip(*(told.blocks for told in (events, *further)), strict=True):
        key = tuple((b.bytes, b.shape, b.dtype, b.term, b.phase, b.price) for b in same)
        if key not in kinds:
            kinds[key] = len(kinds)
            described.append(_kind(functions, same, key))
        kind_of.append(kinds[key])
        op_of.append(_op(same, seen, ops))
    births = iter(kind_of)
    recording = {
        "grid": asdict(grid),
        "kinds": described,
        "events": [event or ~next(births) for event in events.events],
        "op_steps": [op - before for before, op in pairwise([0, *op_of])],
        "ops": list(ops),
        "options": {name: asdict(option) for name, option in first.options.items()},
        "notes": first.notes,
        "output_shapes": functions.of([o.output_shapes for o in seen]),
        "functions": functions.functions,
    }
    for size, traced in found.items() if grid.cycles else ():
        _check_turns(recording, grid, size, traced)
    return recording


def _check_turns(recording: dict[str, Any], grid: Grid, size: Size, traced: Traced) -> None:
    """Raise Elsewhere where a block is another than the recording says: its functions are made of one turn at each size."""
    played = _played(recording, grid, size, _values(recording, grid, size))
    born = [(kind, op) for _, kind, op in played if kind is not None]
    for block, (kind, op) in zip(traced.events.blocks, born, strict=True):
        facts = block.bytes, block.shape, block.dtype, block.term, block.phase, None
        own_op = traced.events.ops[block.op] if block.op >= 0 else None
        same = (*facts[2:5], block.price) == kind[2:] if block.price else facts == kind
        if not same or own_op != (tuple(recording["ops"][op]) if op >= 0 else None):
            raise Elsewhere


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
    sides = {name: tuple(grid[name]) for name in ("first", "step", "last")}
    apart, pixels = tuple(map(tuple, grid.get("apart", ()))), tuple(grid.get("pixels") or ()) or None
    cycles = tuple(Cycle(*cycle) for cycle in grid.get("cycles", ()))
    return Grid(**grid | sides | {"apart": apart, "pixels": pixels, "cycles": cycles})


def replay(recording: dict[str, Any], size: Size, stack: Stack) -> Traced:
    """What a trace at `size`, on the grid, would find. Raises Elsewhere if another path is taken there or on this card,
    NoKernelError where no attention kernel can run."""
    grid = grid_of(recording)
    if not grid.holds(size):
        raise Elsewhere
    values = _values(recording, grid, size)
    routes: Counter[str] = Counter()
    prices = Prices(stack, routes)
    slots = Slots(prices)
    alive: list[list[int]] = []
    try:
        for event, kind, op in _played(recording, grid, size, values):
            if kind is None:
                slots.give_back(alive.pop(-event))
            else:
                alive.append(slots.take(op, *kind))
    finally:
        prices.planner.close()
    stream = Stream(slots.blocks, slots.events, [tuple(op) for op in recording["ops"]])
    options = {name: AppliedOption(**option) for name, option in recording["options"].items()}
    shapes = _resolved(recording["output_shapes"], values)
    answered = prices.planner.sources, prices.unplanned_bytes
    return Traced(stream, routes, options, shapes, recording["notes"], *answered)


Kind = tuple[int, tuple[int, ...], str, str, str, Price | None]


def _values(recording: dict[str, Any], grid: Grid, size: Size) -> list[int]:
    """The numbers of a recording's functions at a size."""
    return [value_at(grid, function, size) for function in recording["functions"]]


def _played(
    recording: dict[str, Any], grid: Grid, size: Size, values: list[int]
) -> Iterator[tuple[int, Kind | None, int]]:
    """The events at a size: each with the kind and the op of a birth, or with None for a death. `values` as `_values`."""
    events, ops = recording["events"], accumulate(recording["op_steps"])
    kinds = _kinds(recording, grid, size, values)
    told = [(event, next(ops) if event < 0 else -1) for event in events]
    for places, turn in unrolled(grid.cycles, len(events), grid.more(size) if grid.cycles else 0):
        of = kinds[turn]
        for event, op in told[places.start : places.stop]:
            yield event, of[~event] if event < 0 else None, op


def _kinds(recording: dict[str, Any], grid: Grid, size: Size, values: list[int]) -> list[list[Kind]]:
    """What births of each kind are, turn by turn."""
    kinds, functions = recording["kinds"], recording["functions"]
    whole = [_evaluate(kind, values) for kind in kinds]
    if not grid.cycles:
        return [whole]
    moving = {~n for n, function in enumerate(functions) if is_of_frames(function)}
    changing = [n for n, kind in enumerate(kinds) if _asks(kind, moving)]
    found, passing = [], values.copy()
    for turn in range(grid.more(size) + max(cycle.turns for cycle in grid.cycles)):
        for number in moving:
            passing[~number] = value_at(grid, functions[~number], grid.at_turn(size, turn))
        found.append(whole.copy())
        for n in changing:
            found[-1][n] = _evaluate(kinds[n], passing)
    return found


def _asks(value: Any, functions: set[int]) -> bool:
    """Whether a number in a kind is of one of these functions."""
    if isinstance(value, (list, dict)):
        return any(_asks(item, functions) for item in (value.values() if isinstance(value, dict) else value))
    return value in functions


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


def _resolved(value: Any, values: list[int]) -> Any:
    if type(value) is int:
        return value if value >= 0 else values[~value]
    if isinstance(value, list):
        return tuple([_resolved(item, values) for item in value])
    if isinstance(value, dict):
        return {name: _resolved(item, values) for name, item in value.items()}
    return value
