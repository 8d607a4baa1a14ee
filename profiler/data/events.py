"""A stream of allocator events, estimated or measured: which block was born in which module and op, and when it died.

Both sides have the same shape, so that one replay and one comparison serve both.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from profiler.data.memory import AliveTensor


@dataclass(slots=True)
class Block:
    """One storage or one borrowed buffer, from birth to death. `born` and `died` are positions in the event stream.

    `price`: the call by which a rule found the size, if one did (`kernels/prices.py`). `queue`: the CUDA stream from whose
    pool it was taken; `awaited`: another stream uses it as well (`record_stream`).
    """

    number: int
    bytes: int
    op: int
    shape: tuple[int, ...]
    dtype: str
    term: str
    phase: str
    born: int
    died: int | None = None
    price: Any = None
    queue: int = 0
    awaited: bool = False


def alive_at(blocks: Iterable[Block], moment: int) -> list[Block]:
    """The blocks that are there after event `moment`, in their order; before the first event, at -1, none is."""
    return [b for b in blocks if b.born <= moment and (b.died is None or b.died > moment)]


class Events(Protocol):
    """`events` is the stream of block numbers: `n` for a birth, `~n` for a death. `ops[i]` is (module path, op name).

    A block's `bytes` are those asked for; what the allocator hands out is the replay's knowledge. An `op` below 0 is none.
    Before the events in `cache_emptied_at` the cached segments are given back (`torch.cuda.empty_cache()`).
    """

    @property
    def blocks(self) -> list[Block]: ...
    @property
    def events(self) -> list[int]: ...
    @property
    def ops(self) -> list[tuple[str, str]]: ...
    @property
    def cache_emptied_at(self) -> set[int]: ...


def described(block: Block, size: int, module: str, op: str) -> AliveTensor:
    """A block as a tensor that is alive: `size` is what it takes of the allocator; `module` and `op` made it."""
    return AliveTensor(bytes=size, shape=block.shape, dtype=block.dtype, term=block.term, module=module, op=op)


def place_of(events: Events, block: Block) -> tuple[str, str]:
    """The module and op that made a block; before the call, its phase."""
    return events.ops[block.op] if block.phase == "cold" and block.op >= 0 else ("", block.phase)


def first_event(events: Events) -> int:
    """The position of the call's first event: what comes before are weights, inputs, and calls of other sizes."""
    return next((block.born for block in events.blocks if block.phase == "cold"), len(events.events))


def first_later_event(events: Events) -> int:
    """The position of the first event of a second call, where that was watched too; else the end."""
    return next((block.born for block in events.blocks if block.phase == "warm"), len(events.events))


@dataclass(frozen=True)
class Stream:
    """Events from the first weight to the end of the cold call, recorded or read back."""

    blocks: list[Block]
    events: list[int]
    ops: list[tuple[str, str]]
    cache_emptied_at: set[int] = field(default_factory=set)
