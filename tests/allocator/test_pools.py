"""Pools of CUDA streams, blocks that wait for another stream, and pinned memory of the host."""

import pytest

from profiler.allocator.caching import CachingAllocator
from profiler.allocator.expandable import ExpandableAllocator
from profiler.allocator.host import Host
from profiler.allocator.settings import parse_settings
from profiler.data.units import GIB, MIB


@pytest.mark.parametrize("make", [CachingAllocator, lambda: ExpandableAllocator(8 * GIB)], ids=["plain", "expandable"])
def test_a_stream_never_gets_another_ones_blocks(make: type[CachingAllocator]) -> None:
    allocator = make()
    block = allocator.malloc(20 * MIB, 1)
    allocator.free(block)
    allocator.malloc(20 * MIB)
    assert allocator.reserved == 40 * MIB
    allocator.malloc(20 * MIB, 1)
    assert allocator.reserved == 40 * MIB, "its own stream has it back"


def test_a_block_that_is_awaited_counts_as_free_and_is_given_out_from_the_next_request_on() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.malloc(20 * MIB), awaited=True)
    assert (allocator.allocated, allocator.unused()) == (0, [])
    allocator.malloc(20 * MIB)
    assert allocator.reserved == 20 * MIB


def test_emptying_the_cache_waits_for_what_is_awaited() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.malloc(20 * MIB), awaited=True)
    allocator.empty_cache()
    assert allocator.reserved == 0


def test_a_large_pinned_block_is_neither_rounded_nor_kept_where_settings_say_so() -> None:
    """ATen/core/CachingHostAllocator.h; a dry run of SD 1.5's groups with a threshold of 1 MiB pinned the exact sum."""
    host = Host(parse_settings("pinned_max_round_threshold_mb:64,pinned_max_cached_size_mb:100"))
    host.take(70 * MIB, pinned=True)
    assert host.pinned == 70 * MIB
    host.take(33 * MIB, pinned=True)
    assert host.pinned == (70 + 64) * MIB
    host.take(108 * MIB, pinned=True)
    host.give_back(108 * MIB, pinned=True)
    assert host.pinned == (70 + 64) * MIB
    host.give_back(70 * MIB, pinned=True)
    assert host.pinned == (70 + 64) * MIB


def test_pinned_blocks_are_powers_of_two_and_are_kept() -> None:
    host = Host(parse_settings(""))
    host.take(108 * MIB, pinned=True)  # a weight of FLUX.1, 18432x3072: 128 MiB (dry run of torch 2.13.0)
    assert host.pinned == 128 * MIB
    host.give_back(108 * MIB, pinned=True)
    host.take(100 * MIB, pinned=True)
    assert host.pinned == 128 * MIB
    host.take(5)
    host.give_back(5)
    assert (host.pageable, host.peak_pageable, host.peak) == (0, 5, 128 * MIB + 5)
