"""Turns of a stream: a causal coder runs each chunk of a clip as the one before, so that a longer clip takes more turns.

A death is told by how many of the blocks alive are no older than its own: the same in each turn, whatever earlier ones left.
"""

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

from profiler.data.events import Block, Events
from profiler.kernels.prices import Elsewhere


class Cycle(NamedTuple):
    """Events that come in turns: the first of them among those told, how many they are, and the turns at the least."""

    start: int
    events: int
    turns: int


class Rolled(NamedTuple):
    """A stream with each cycle told once: `events` are 0 for a birth, or the place of a death, `blocks` those born."""

    events: list[int]
    blocks: list[Block]


def unrolled(cycles: Sequence[Cycle], told: int, more: int) -> Iterator[tuple[range, int]]:
    """The events of a stream with `more` turns than the least, as places among those `told`, each range with its turn.

    What is in no cycle counts as of turn `more`: its numbers are of the whole clip.
    """
    at = 0
    for start, events, turns in cycles:
        yield range(at, start), more
        at = start + events
        yield from ((range(start, at), turn) for turn in range(turns + more))
    yield range(at, told), more


def rolled(stream: Events, cycles: Sequence[Cycle] = (), more: int = 0) -> Rolled:
    """A stream that has `more` turns than the least, each cycle told once, by its turn `more`. Raises Elsewhere if not."""
    events = list(_events(stream))
    told = len(events) - sum((turns + more - 1) * each for _, each, turns in cycles)
    if told < max((cycle.start + cycle.events for cycle in cycles), default=0):
        raise Elsewhere
    found: dict[int, int] = {}
    births: dict[int, Block] = {}
    blocks = iter(stream.blocks)
    places = ((place, turn) for places, turn in unrolled(cycles, told, more) for place in places)
    for event, (place, turn) in zip(events, places, strict=True):
        if found.setdefault(place, event) != event:
            raise Elsewhere
        if event == 0 and (block := next(blocks)) and turn == more:
            births[place] = block
    return Rolled([found[place] for place in range(told)], [births[place] for place in sorted(births)])


def _events(stream: Events) -> Iterator[int]:
    """0 for a birth; for a death how many blocks are alive that are no older, itself counted."""
    alive: list[int] = []
    for event in stream.events:
        if event >= 0:
            alive.append(event)
            yield 0
        else:
            place = bisect_left(alive, ~event)
            yield len(alive) - place
            del alive[place]


def cycles_of(short: Events, longer: Events) -> tuple[Cycle, ...]:
    """The cycles of which `longer` has one more turn than `short`. Raises Elsewhere where it differs by something else."""
    one, other = ([*zip(_events(stream), _ops(stream), strict=True)] for stream in (short, longer))
    found: list[Cycle] = []
    at = shift = told = 0
    while True:
        at += _common(one, at, other, at + shift)
        left = len(other) - len(one) - shift
        if left <= 0:
            break
        each = max(range(1, left + 1), key=lambda n: (_common(one, at, other, at + shift + n), n))
        turn, turns = other[at + shift : at + shift + each], 0
        while at >= (turns + 1) * each and one[at - (turns + 1) * each : at - turns * each] == turn:
            turns += 1
        start = at - turns * each - told
        if turns < 2 or (found and start < found[-1].start + found[-1].events):
            raise Elsewhere
        found.append(Cycle(start, each, turns - 1))  # where the last one ends is not seen: what follows may begin alike
        told += (turns - 2) * each
        shift += each
    if left or at < len(one):
        raise Elsewhere
    return tuple(found)


def _ops(stream: Events) -> Iterator[Hashable]:
    """The op of each birth, None for a death."""
    blocks = iter(stream.blocks)
    for event in stream.events:
        op = next(blocks).op if event >= 0 else -1
        yield stream.ops[op] if op >= 0 else None


def _common(one: Sequence[object], at: int, other: Sequence[object], there: int) -> int:
    """How many items from `at` on are those from `there` on."""
    most = min(len(one) - at, len(other) - there)
    return next((n for n in range(most) if one[at + n] != other[there + n]), most)
