"""The allocator model: torch's rules one by one, and invariants over random streams."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.allocator.caching import CachingAllocator, OutOfMemory
from profiler.allocator.expandable import ExpandableAllocator
from profiler.allocator.plain import PlainAllocator
from profiler.allocator.settings import AllocatorSettings
from profiler.data.units import MIB


@pytest.mark.parametrize(("size", "rounded"), [(1, 512), (512, 512), (513, 1024), (MIB + 1, MIB + 512)])
def test_requests_are_rounded_up(size: int, rounded: int) -> None:
    assert AllocatorSettings().round(size) == rounded


@pytest.mark.parametrize(
    ("size", "segment"),
    [(512, 2 * MIB), (MIB, 2 * MIB), (MIB + 512, 20 * MIB), (10 * MIB - 512, 20 * MIB), (10 * MIB, 10 * MIB),
     (10 * MIB + 512, 12 * MIB)],
)  # fmt: skip
def test_segments(size: int, segment: int) -> None:
    assert AllocatorSettings().segment_size(size) == segment


def test_a_large_block_keeps_a_tail_of_up_to_one_mebibyte() -> None:
    """The example of a 76,677,120 B tensor in a 78 MB segment: it counts 77,594,624 B, tail included."""
    allocator = CachingAllocator()
    block = allocator.malloc(76_677_120)
    assert (block.size, allocator.allocated, allocator.requested) == (77_594_624, 77_594_624, 76_677_120)


@pytest.mark.parametrize(
    ("size", "taken"),
    [(10 * MIB, 11 * MIB), (10 * MIB - 512, 10 * MIB - 512), (10 * MIB + 512, 11 * MIB)],
)
def test_a_tail_of_exactly_one_mebibyte_stays_and_one_unit_more_is_split_off(size: int, taken: int) -> None:
    allocator = CachingAllocator()
    allocator.malloc(9 * MIB)  # of a segment of 20 MiB: 11 are left
    assert allocator.malloc(size).size == taken
    assert allocator.reserved == 20 * MIB


def test_a_tail_above_one_mebibyte_is_split_off_and_used() -> None:
    allocator = CachingAllocator()
    allocator.malloc(2 * MIB)
    allocator.malloc(3 * MIB)
    assert (allocator.allocated, allocator.reserved) == (5 * MIB, 20 * MIB)


def test_best_fit_takes_the_smallest_block_and_the_lowest_address() -> None:
    allocator = CachingAllocator()
    big, small, other = (allocator.malloc(size * MIB) for size in (40, 30, 30))
    addresses = small.address, other.address
    for block in (big, other, small):
        allocator.free(block)
    assert allocator.malloc(30 * MIB).address == min(addresses)


def test_neighbours_merge() -> None:
    allocator = CachingAllocator()
    blocks = [allocator.malloc(4 * MIB) for _ in range(5)]
    for index in (1, 3, 2, 0, 4):
        allocator.free(blocks[index])
    assert allocator.malloc(20 * MIB).size == 20 * MIB
    assert allocator.reserved == 20 * MIB


def test_small_and_large_requests_never_share_a_segment() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.malloc(20 * MIB))
    allocator.malloc(512)
    assert allocator.reserved == 22 * MIB


def test_a_full_device_gives_cached_segments_back_and_tries_again() -> None:
    allocator = CachingAllocator(capacity=40 * MIB)
    allocator.free(allocator.malloc(30 * MIB))
    allocator.malloc(36 * MIB)
    assert (allocator.retries, allocator.reserved) == (1, 36 * MIB)
    with pytest.raises(OutOfMemory) as caught:
        allocator.malloc(8 * MIB)
    assert caught.value.requested == 8 * MIB


def test_peaks_start_anew_from_now() -> None:
    allocator = CachingAllocator()
    held = allocator.malloc(20 * MIB)
    allocator.free(allocator.malloc(20 * MIB))
    allocator.reset_peaks()
    assert (allocator.peak_allocated, allocator.peak_reserved) == (20 * MIB, 40 * MIB)
    allocator.free(held)
    assert allocator.peak_allocated == 20 * MIB


streams = st.lists(st.tuples(st.integers(1, 64 * MIB), st.integers(0, 20)), max_size=80)


@settings(deadline=None)
@given(streams, st.booleans())
def test_books_balance_over_any_stream(stream: list[tuple[int, int]], expandable: bool) -> None:
    allocator = ExpandableAllocator(1 << 37) if expandable else CachingAllocator()
    live = []
    for size, choice in stream:
        live.append(allocator.malloc(size))
        if choice < len(live):
            allocator.free(live.pop(choice))
        assert allocator.allocated == sum(block.size for block in live)
        assert allocator.requested == sum(block.requested for block in live) <= allocator.allocated
        assert allocator.allocated <= allocator.reserved <= allocator.peak_reserved
        spans = sorted((block.address, block.address + block.size) for block in live)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    for block in live:
        allocator.free(block)
    allocator.empty_cache()
    assert allocator.allocated == allocator.requested == allocator.reserved == 0


def test_the_cpu_has_no_cache() -> None:
    allocator = PlainAllocator()
    block = allocator.malloc(3)
    allocator.free(block)
    assert (allocator.allocated, allocator.peak_allocated, allocator.reserved) == (0, 3, None)
