"""A stream of allocator events as a file: columns in gzipped JSON, tens of kilobytes for thousands of events."""

import gzip
import json
from pathlib import Path

from profiler.data.events import Block, Events, Stream
from profiler.files.write import write_atomically

SCHEMA = 1
COLUMNS = ("bytes", "op", "term", "phase", "shape", "dtype")


def write_stream(path: Path, found: Events) -> None:
    """Write a stream as one file, whole or not at all."""
    columns = {name: [getattr(block, name) for block in found.blocks] for name in COLUMNS}
    data = {"schema": SCHEMA, **columns, "events": found.events, "ops": found.ops}
    data["cache_emptied_at"] = sorted(found.cache_emptied_at)
    write_atomically(path, gzip.compress(json.dumps(data, separators=(",", ":")).encode(), mtime=0))


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
