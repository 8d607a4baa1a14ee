"""Where segments lie: below the last one on a card, in the highest hole that has room; above all in a dry run."""

from profiler.allocator.addresses import TOP, Addresses


def test_on_a_card_they_fall_and_holes_are_used_again() -> None:
    found = Addresses(falling=True)
    first, second, third = (found.take(size) for size in (40, 20, 60))
    assert (first, second, third) == (TOP - 40, TOP - 60, TOP - 120)
    found.give_back(second, 20)
    assert found.take(30) == TOP - 150
    assert found.take(5) == second + 15
    found.give_back(second + 15, 5)
    found.give_back(first, 40)
    assert found.take(55) == TOP - 55


def test_in_a_dry_run_they_rise_and_nothing_is_used_again() -> None:
    found = Addresses(falling=False)
    assert [found.take(20), found.take(20)] == [0, 20]
    found.give_back(0, 20)
    assert found.take(20) == 40
