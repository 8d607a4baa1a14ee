"""A real card's own events, replayed: its counters, but where equally large free blocks lie in another order on the card."""

from pathlib import Path

import pytest

from profiler.allocator.caching import CachingAllocator, Piece
from profiler.allocator.replay import Replay
from profiler.files.store import open_run
from profiler.files.streams import read_stream

H200 = Path(__file__).parents[2] / "results" / "reference" / "h200-torch2.11.0+cu130-diffusers0.42.1"


class Falling(CachingAllocator):
    """Each new segment lies below all that were there."""

    def _new_segment(self, size: int, small: bool) -> Piece | None:
        block = super()._new_segment(size, small)
        if block is not None:
            block.address = (1 << 50) - self._next_address
        return block


@pytest.mark.parametrize(
    ("key", "allocator", "off_by"),
    [
        (
            "hunyuan-video/decode/17x256x256/b1/fp16",
            CachingAllocator,
            (0, 0),
        ),  # the estimate misses its plans
        ("sdxl/decode/1x1024x1024/b1/fp32", CachingAllocator, (0, 0)),
        ("qwen-image/decode/1x1024x1024/b1/fp16", CachingAllocator, (0, 809_500_672)),
        ("cogvideox-5b/encode/49x480x720/b1/bf16", CachingAllocator, (843_776, 0)),
        ("cogvideox-5b/encode/49x480x720/b1/bf16", Falling, (0, 0)),
    ],
)
def test_a_cards_own_events_replayed(key: str, allocator: type[CachingAllocator], off_by: tuple[int, int]) -> None:
    run = open_run(H200)
    record = next(record for record in run.records() if record.key == key)
    assert record.measurement is not None
    counted = record.measurement.peak
    found = Replay(read_stream(run.event_path(record.workload, "measured")), allocator()).peak
    assert found.allocated_bytes is not None and found.reserved_bytes is not None
    assert counted.allocated_bytes is not None and counted.reserved_bytes is not None
    off = found.allocated_bytes - counted.allocated_bytes, found.reserved_bytes - counted.reserved_bytes
    assert off == off_by
