"""Where segments lie: on a card in chunks that fall, in the highest hole that has room; above all in a dry run."""

from profiler.allocator.addresses import CHUNK, TOP, Addresses
from profiler.data.units import MIB


def test_on_a_card_chunks_fall_and_holes_are_used_again() -> None:
    found = Addresses(falling=True)
    first, second, third = (found.take(size * CHUNK) for size in (4, 2, 6))
    assert (first, second, third) == (TOP - 4 * CHUNK, TOP - 6 * CHUNK, TOP - 12 * CHUNK)
    found.give_back(second, 2 * CHUNK)
    assert found.take(3 * CHUNK) == TOP - 15 * CHUNK
    assert found.take(CHUNK) == second + CHUNK
    found.give_back(second + CHUNK, CHUNK)
    found.give_back(first, 4 * CHUNK)
    assert found.take(6 * CHUNK) == second


def test_within_a_chunk_they_rise_and_the_lowest_with_room_gives() -> None:
    """Segments of ControlNet's load on an H100 (torch 2.11.0, driver 580.159.04, 2026-11-26), from the eighth chunk on."""
    found = Addresses(falling=True)
    sizes = (20, 20, 26, 14, 20, 20, 26, 20, 20, 26, 14, 20, 26, 14)
    at = (0, -32, -64, -96, -128, -160, -192, -224, -256, -288, -82, -320, -352, -384)
    taken = [found.take(size * MIB) for size in sizes]
    assert [(address - taken[0]) // MIB for address in taken] == list(at)


def test_a_chunk_that_is_wholly_free_goes_back() -> None:
    found = Addresses(falling=True)
    _, second, third = (found.take(20 * MIB) for _ in range(3))
    assert found.take(2 * MIB) == third + 20 * MIB
    found.give_back(third, 20 * MIB)
    assert found.take(30 * MIB) == third - CHUNK  # 2 MiB of it are in use
    found.give_back(third + 20 * MIB, 2 * MIB)
    assert found.take(CHUNK) == third
    found.give_back(second, 20 * MIB)
    assert found.take(CHUNK) == second


def test_in_a_dry_run_they_rise_and_nothing_is_used_again() -> None:
    found = Addresses(falling=False)
    assert [found.take(20), found.take(20)] == [0, 20]
    found.give_back(0, 20)
    assert found.take(20) == 40
