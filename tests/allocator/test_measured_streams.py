"""A real card's own events, replayed: its counters, but where equally large free blocks lie in another order on the card."""

from pathlib import Path

import pytest

from profiler.allocator.caching import CachingAllocator
from profiler.allocator.replay import Replay
from profiler.files.store import open_run
from profiler.files.streams import read_stream

H200 = Path(__file__).parents[2] / "results" / "reference" / "h200-torch2.11.0+cu130-diffusers0.42.1"


@pytest.mark.parametrize(
    ("key", "falling", "off_by"),
    [
        ("hunyuan-video/decode/17x256x256/b1/fp16", True, (0, 0)),  # the estimate misses its plans
        ("sdxl/decode/1x1024x1024/b1/fp32", True, (0, 0)),
        ("qwen-image/decode/1x1024x1024/b1/fp16", True, (-425_984, -90_177_536)),  # an order of its own
        ("cogvideox-5b/encode/49x480x720/b1/bf16", True, (0, 0)),
        ("cogvideox-5b/encode/49x480x720/b1/bf16", False, (843_776, 0)),
    ],
)
def test_a_cards_own_events_replayed(key: str, falling: bool, off_by: tuple[int, int]) -> None:
    run = open_run(H200)
    record = next(record for record in run.records() if record.key == key)
    assert record.measurement is not None
    counted = record.measurement.peak
    found = Replay(read_stream(run.event_path(record.workload, "measured")), CachingAllocator(falling=falling)).peak
    assert found.allocated_bytes is not None and found.reserved_bytes is not None
    assert counted.allocated_bytes is not None and counted.reserved_bytes is not None
    off = found.allocated_bytes - counted.allocated_bytes, found.reserved_bytes - counted.reserved_bytes
    assert off == off_by
