"""A stream of allocator events, estimated or measured: which block was born in which module and op, and when it died.

Both sides have the same shape, so that one replay and one comparison serve both. A file holds a stream as columns in gzipped
JSON: tens of kilobytes for thousands of events.
"""

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

SCHEMA = 1
COLUMNS = ("bytes", "op", "term", "phase", "shape", "dtype")


@dataclass(slots=True)
class Block:
    """One storage or one borrowed buffer, from birth to death. `born` and `died` are positions in the event stream.

    `price`: the call by which a rule found the size, if one did (`estimate/prices.py`).
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


@dataclass(frozen=True)
class Stream:
    """Events from the first weight to the end of the cold call, recorded or read back."""

    blocks: list[Block]
    events: list[int]
    ops: list[tuple[str, str]]
    cache_emptied_at: set[int] = field(default_factory=set)


def write_stream(path: Path, found: Events) -> None:
    """Write a stream as one file, whole or not at all."""
    columns = {name: [getattr(block, name) for block in found.blocks] for name in COLUMNS}
    data = {"schema": SCHEMA, **columns, "events": found.events, "ops": found.ops}
    data["cache_emptied_at"] = sorted(found.cache_emptied_at)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(gzip.compress(json.dumps(data, separators=(",", ":")).encode(), mtime=0))
    temporary.replace(path)


def read_stream(path: Path) -> Stream:
    """The stream in a file."""
    with gzip.open(path) as stream:
        data = json.load(stream)
    births = {number: at for at, number in enumerate(data["events"]) if number >= 0}
    deaths = {~number: at for at, number in enumerate(data["events"]) if number < 0}
    rows = zip(*(data[name] for name in COLUMNS), strict=True)
    blocks = [
        Block(number, size, op, tuple(shape), dtype, term, phase, births[number], deaths.get(number))
        for number, (size, op, term, phase, shape, dtype) in enumerate(rows)
    ]
    ops = [(module, op) for module, op in data["ops"]]
    return Stream(blocks, data["events"], ops, set(data.get("cache_emptied_at", ())))
