"""A file of allocator events comes back as it was written, or says that it is none."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from profiler.data.events import Block, Stream
from profiler.errors import UserError
from profiler.files.streams import packed, read_stream

FOUND = Stream(
    blocks=[
        Block(0, 512, -1, (16, 8), "fp32", "weights", "model", 0),
        Block(1, 64, 0, (), "bf16", "workspace", "cold", 1, 2),
    ],
    events=[0, 1, ~1],
    ops=[("decoder", "aten.add.Tensor")],
    cache_emptied_at={1},
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json.gz").write_bytes(packed(FOUND))
    assert read_stream(tmp_path / "x.json.gz") == FOUND


@pytest.mark.parametrize(
    "change",
    [
        {"events": [0, 1, ~1, ~1]},
        {"events": [0, ~1, 1]},
        {"events": [0, 1, ~2]},
        {"events": [0]},
        {"op": [-1, 1]},
        {"bytes": [512]},
        {"bytes": [512, "many"]},
        {"bytes": None},
        {"shape": [[16, 8], "x"]},
        {"ops": [["decoder"]]},
        {"cache_emptied_at": "x"},
    ],
    ids=str,
)
def test_columns_that_do_not_belong_together_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "x.json.gz"
    path.write_bytes(packed(FOUND))
    path.write_bytes(gzip.compress(json.dumps(json.loads(gzip.decompress(path.read_bytes())) | change).encode()))
    with pytest.raises(UserError, match="not a stream of allocator events"):
        read_stream(path)


@pytest.mark.parametrize("missing", range(1, 150, 7))
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, missing: int) -> None:
    path = tmp_path / "x.json.gz"
    path.write_bytes(packed(FOUND))
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(UserError, match="not a stream of allocator events"):
        read_stream(path)


def test_a_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiler.files.streams.MOST_BYTES", 1 << 20)
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(bytes(1 << 21)))
    with pytest.raises(UserError, match=r"more than 1\.0 MiB"):
        read_stream(tmp_path / "x.json.gz")
