"""Streams that repeat themselves: what is left out of a replay changes nothing of its answer."""

from collections.abc import Hashable, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.allocator.caching import CachingAllocator, OutOfMemory
from profiler.allocator.expandable import ExpandableAllocator
from profiler.allocator.repeats import find_repeats
from profiler.allocator.replay import Replay
from profiler.allocator.settings import AllocatorSettings
from profiler.data.events import Block, Stream
from profiler.data.spans import Span
from profiler.data.units import MIB

Layer = Sequence[tuple[int, int]]  # bytes, and after how many more births they are given back; 0: never


def layers(before: Layer, layer: Layer, times: int, after: Layer = (), emptied: bool = False) -> Stream:
    """A call of a few requests, `times` layers alike, and a few more."""
    blocks: list[Block] = []
    events: list[int] = []
    due: dict[int, list[int]] = {}
    for size, age in (*before, *layer * times, *after):
        number = len(blocks)
        blocks.append(Block(number, size, 0, (size,), "byte", "activations", "cold", len(events)))
        events.append(number)
        due.setdefault(number + age, []).append(number) if age else None
        for dead in due.pop(number, []):
            blocks[dead].died = len(events)
            events.append(~dead)
    return Stream(blocks, events, [("module", "aten.op")], {len(events) // 2} if emptied else set())


def answer(stream: Stream, allocator: CachingAllocator, *, whole: bool, earlier: tuple[int, ...]) -> Hashable:
    """All that a replay and a later call tell; `whole`: with every event played."""
    middle = len(stream.events) // 2
    spans = [Span("first step", 1, 0, middle), Span("decode", 1, middle, len(stream.events))]
    try:
        found = Replay(
            stream, allocator, earlier=earlier, spans=spans if len(stream.events) % 2 else (),
            repeats=[] if whole else None,
        )  # fmt: skip
        told = found.peak, found.peak_event, tuple(found.sizes), tuple(found.phases.values()), found.state()
        return told, found.again(), found.state(), tuple(found.sizes), allocator.requested, allocator.retries
    except OutOfMemory as error:
        return error.requested, allocator.allocated, allocator.reserved


SIZES = (300, 512, 70_000, MIB, MIB + 1, 3 * MIB, 9 * MIB, 11 * MIB, 24 * MIB)


@settings(deadline=None, max_examples=200)
@given(st.randoms(use_true_random=False), st.sampled_from(("plain", "expandable", "split")),
       st.none() | st.integers(40, 400), st.sampled_from(((), (2,), (16, 4))))  # fmt: skip
def test_leaving_periods_out_changes_nothing(
    rng: Random, kind: str, room: int | None, earlier: tuple[int, ...]
) -> None:
    before, after = ([(rng.choice(SIZES), rng.randrange(20)) for _ in range(rng.randrange(12))] for _ in range(2))
    longest = rng.choice((3, 12, 40))
    layer = [(rng.choice(SIZES), rng.randint(1, longest)) for _ in range(rng.randint(9, 24))]
    stream = layers(before, layer, rng.randint(8, 20), after, emptied=rng.random() < 0.1)
    capacity = room and room * MIB

    def allocator() -> CachingAllocator:
        if kind == "expandable":
            return ExpandableAllocator(1 << 34, capacity)
        return CachingAllocator(capacity, AllocatorSettings(max_split=20 * MIB if kind == "split" else None))

    assert answer(stream, allocator(), whole=False, earlier=earlier) == answer(
        stream, allocator(), whole=True, earlier=earlier
    )


# The hidden state goes from layer to layer; two of its size take turns.
LAYER = [(8 * MIB, 12), *[(3 * MIB, 1), (512, 2), (12 * MIB, 3)] * 4]


def test_layers_after_the_first_few_are_not_played(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = layers([(4 * MIB, 0)], LAYER, 40)
    (repeat,) = find_repeats(stream)
    assert repeat.period == 2 * len(LAYER)
    asked: list[int] = []
    malloc = CachingAllocator.malloc
    monkeypatch.setattr(CachingAllocator, "malloc", lambda self, *a: asked.append(a[0]) or malloc(self, *a))
    found = Replay(stream, CachingAllocator())
    assert len(asked) < 8 * len(LAYER)
    assert all(found.sizes)


@pytest.mark.parametrize("kept", [2 * MIB, 24 * MIB])  # a part of a segment, a whole one
def test_what_piles_up_is_played(kept: int) -> None:
    stream = layers([], [*LAYER, (kept, 0)], 30)
    assert find_repeats(stream)
    found, whole = (Replay(stream, CachingAllocator(), repeats=repeats) for repeats in (None, []))
    assert found.peak == whole.peak


def test_garbage_has_an_age_so_that_no_state_is_like_another() -> None:
    assert CachingAllocator(1 << 30, garbage_above=1 << 29).free_now() is None


def test_an_emptied_cache_ends_a_repeat() -> None:
    stream = layers([], LAYER, 40, emptied=True)
    (middle,) = stream.cache_emptied_at
    assert all(one.stop <= middle or one.start > middle for one in find_repeats(stream))
