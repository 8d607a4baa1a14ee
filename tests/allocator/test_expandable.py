"""Expandable segments: pages are mapped on demand at the end of one address range, and given back page by page."""

import pytest

from profiler.allocator.caching import OutOfMemory
from profiler.allocator.expandable import ExpandableAllocator
from profiler.data.units import MIB

TOTAL = 1 << 37


def test_a_range_grows_by_whole_pages_behind_what_is_free() -> None:
    allocator = ExpandableAllocator(TOTAL)
    first = allocator.malloc(2 * MIB)
    assert allocator.reserved == 20 * MIB
    second = allocator.malloc(30 * MIB)  # 18 MiB are free, so one more page is mapped
    assert (second.address, second.size) == (first.address + 2 * MIB, 30 * MIB)
    assert allocator.reserved == 40 * MIB
    allocator.malloc(512)
    assert allocator.reserved == 42 * MIB  # small requests have a range of their own, with pages of 2 MiB


def test_a_tail_of_one_unit_is_split_off() -> None:
    allocator = ExpandableAllocator(TOTAL)
    assert allocator.malloc(20 * MIB - 512).size == 20 * MIB - 512
    assert allocator.malloc(10 * MIB).size == 10 * MIB
    assert allocator.reserved == 40 * MIB


def test_an_emptied_cache_gives_back_whole_pages_that_nobody_uses() -> None:
    allocator = ExpandableAllocator(TOTAL)
    first, second, third = (allocator.malloc(size * MIB) for size in (10, 40, 10))
    assert allocator.reserved == 60 * MIB
    allocator.free(second)
    allocator.empty_cache()
    assert allocator.reserved == 40 * MIB  # of 10 to 50 MiB only the page from 20 to 40 is whole
    # Of two free blocks of one size the first could grow into the page that was given back: the other is the better fit.
    assert allocator.malloc(10 * MIB).address == third.address - 10 * MIB
    assert allocator.malloc(10 * MIB).address == first.address + 10 * MIB
    assert allocator.reserved == 40 * MIB
    allocator.malloc(20 * MIB)
    assert allocator.reserved == 60 * MIB


def test_all_pages_come_back() -> None:
    allocator = ExpandableAllocator(TOTAL)
    blocks = [allocator.malloc(size * MIB) for size in (1, 5, 30, 50)]
    for block in blocks:
        allocator.free(block)
    allocator.empty_cache()
    assert (allocator.allocated, allocator.reserved) == (0, 0)


def test_a_full_card_unmaps_first_and_then_refuses() -> None:
    allocator = ExpandableAllocator(TOTAL, capacity=42 * MIB)
    allocator.free(allocator.malloc(MIB))  # its page of 2 MiB is cached
    allocator.malloc(40 * MIB)
    assert allocator.retries == 0
    with pytest.raises(OutOfMemory):
        allocator.malloc(2 * MIB)
    assert (allocator.retries, allocator.ooms, allocator.reserved) == (1, 1, 40 * MIB)


def test_a_request_longer_than_the_card_is_counted_where_there_is_room_for_all() -> None:
    assert ExpandableAllocator(64 * MIB).malloc(200 * MIB).size == 200 * MIB
    with pytest.raises(OutOfMemory):
        ExpandableAllocator(64 * MIB, capacity=64 * MIB).malloc(200 * MIB)
