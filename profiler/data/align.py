"""The longest common subsequence of two sequences that differ little (Myers 1986, An O(ND) Difference Algorithm)."""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from profiler.data.events import Block, Events, alive_at, first_event, place_of

MOST_DIFFERENCES = 2000  # time goes with its square: some two seconds
NOWHERE = (-1, None)


class Matches(NamedTuple):
    """Positions of `a` that match on one diagonal, and those that come before them on the way."""

    start: int
    stop: int
    diagonal: int
    before: "Matches | None"


def align(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Positions (i, j) with a[i] == b[j], rising in both: as many as there can be.

    Past `MOST_DIFFERENCES` insertions and deletions the rest is left without partners.
    """
    ends: dict[int, tuple[int, Matches | None]] = {
        1: (0, None)
    }  # by diagonal i - j: how far into `a`, and the way there
    for cost in range(min(len(a) + len(b), MOST_DIFFERENCES) + 1):
        for diagonal in range(-cost, cost + 1, 2):
            # A diagonal is reached from its two neighbours at one difference less, of which the one further on is taken.
            left, right = ends.get(diagonal - 1, NOWHERE), ends.get(diagonal + 1, NOWHERE)
            start, way = right if left[0] < right[0] else (left[0] + 1, left[1])
            i = start
            while i < len(a) and i - diagonal < len(b) and a[i] == b[i - diagonal]:
                i += 1
            ends[diagonal] = i, Matches(start, i, diagonal, way) if i > start else way
            if i >= len(a) and i - diagonal >= len(b):
                return _pairs_of(ends[diagonal][1])
    return _pairs_of(ends[max(sorted(ends), key=lambda diagonal: 2 * ends[diagonal][0] - diagonal)][1])


def _pairs_of(way: Matches | None) -> list[tuple[int, int]]:
    """The matches on the way, from the start on."""
    stretches = []
    while way:
        stretches.append([(i, i - way.diagonal) for i in range(way.start, way.stop)])
        way = way.before
    return [pair for stretch in reversed(stretches) for pair in stretch]


def pair(a: Events, b: Events) -> dict[int, int]:
    """For each block of `a` that has a counterpart in `b`, the two blocks' numbers.

    Blocks of the call pair within one op: those of one size in order, then the others in order if they are of one term, as
    where both sides borrow a workspace but of another size. Blocks that were there before the call pair by phase and size.
    """
    runs_a, runs_b = _runs(a), _runs(b)
    matched = align([place for place, _ in runs_a], [place for place, _ in runs_b])
    groups_a = _groups(runs_a, [i for i, _ in matched])
    groups_b = _groups(runs_b, [j for _, j in matched])
    partner = _pair_in_order(_resident(a), _resident(b), lambda block: (block.phase, block.bytes))
    for blocks_a, blocks_b in zip(groups_a, groups_b, strict=True):
        partner |= _pair_within(blocks_a, blocks_b)
    return partner


def _runs(side: Events) -> list[tuple[tuple[str, str], list[Block]]]:
    """Blocks of the call in order of birth, with the module and op that made each stretch of them."""
    born = (block for block in side.blocks if block.phase == "cold")
    return [(place, list(run)) for place, run in groupby(born, key=lambda block: place_of(side, block))]


def _groups(runs: Sequence[tuple[tuple[str, str], list[Block]]], matched: Sequence[int]) -> list[list[Block]]:
    """Blocks in as many groups as runs are matched, and one more: a run that only one side has goes with the one before."""
    ends = [0, *matched, len(runs)]
    return [[block for _, blocks in runs[start:end] for block in blocks] for start, end in pairwise(ends)]


def _pair_within(a: list[Block], b: list[Block]) -> dict[int, int]:
    pairs = align([block.bytes for block in a], [block.bytes for block in b])
    found = {a[i].number: b[j].number for i, j in pairs}
    taken = set(found.values())
    rest_a = [block for block in a if block.number not in found]
    rest_b = [block for block in b if block.number not in taken]
    return found | _pair_in_order(rest_a, rest_b, lambda block: block.term)


def _pair_in_order(a: list[Block], b: list[Block], key: Callable[[Block], Hashable]) -> dict[int, int]:
    """The first block of `a` that has a key goes with the first such block of `b`, the second with the second."""
    waiting: dict[Hashable, deque[int]] = defaultdict(deque)
    for block in b:
        waiting[key(block)].append(block.number)
    return {block.number: waiting[key(block)].popleft() for block in a if waiting[key(block)]}


def _resident(side: Events) -> list[Block]:
    """What is alive when the call begins."""
    return [block for block in alive_at(side.blocks, first_event(side) - 1) if block.phase != "cold"]
