"""A stream of allocator events as a file: columns in gzipped JSON, tens of kilobytes for thousands of events."""

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from profiler.data.events import Block, Events, Stream
from profiler.files.load import damage_told, read_bounded, read_record

SCHEMA = 1
COLUMNS = ("bytes", "op", "term", "phase", "shape", "dtype")
MOST_BYTES = 1 << 28  # unpacked; a million blocks have half of it


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What a file holds: a column for each property of the blocks, and the stream."""

    schema: int
    bytes: list[int]
    op: list[int]
    term: list[str]
    phase: list[str]
    shape: list[tuple[int, ...]]
    dtype: list[str]
    events: list[int]
    ops: list[tuple[str, str]]
    cache_emptied_at: set[int] = field(default_factory=set)


def packed(found: Events) -> bytes:
    """A stream as the content of its file."""
    columns = {name: [getattr(block, name) for block in found.blocks] for name in COLUMNS}
    data = {"schema": SCHEMA, **columns, "events": found.events, "ops": found.ops}
    data["cache_emptied_at"] = sorted(found.cache_emptied_at)
    return gzip.compress(json.dumps(data, separators=(",", ":")).encode(), mtime=0)


def read_stream(source: Path | IO[bytes]) -> Stream:
    """The stream in a file, or in its content. Raises UserError for one that is damaged, or another's."""
    place, what = str(source), "a stream of allocator events"
    with damage_told(place, what):
        with gzip.open(source) as stream:
            text = read_bounded(stream, MOST_BYTES)
        return _stream(read_record(Columns, text, place, what, SCHEMA))


def _stream(found: Columns) -> Stream:
    """The blocks of the columns, each born once before it dies. Raises ValueError for what is no stream."""
    births = {number: at for at, number in enumerate(found.events) if number >= 0}
    deaths = {~number: at for at, number in enumerate(found.events) if number < 0}
    rows = list(zip(*(getattr(found, name) for name in COLUMNS), strict=True))
    once = births.keys() == set(range(len(rows))) and len(births) + len(deaths) == len(found.events)
    in_order = all(births.get(number, at) < at for number, at in deaths.items())
    if not (once and in_order and all(op < len(found.ops) for op in found.op)):
        raise ValueError("its events, blocks and ops do not belong together")
    blocks = [
        Block(number, size, op, shape, dtype, term, phase, births[number], deaths.get(number))
        for number, (size, op, term, phase, shape, dtype) in enumerate(rows)
    ]
    return Stream(blocks, found.events, found.ops, found.cache_emptied_at)
