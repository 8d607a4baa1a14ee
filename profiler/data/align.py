"""The longest common subsequence of two sequences that differ little (Myers 1986, An O(ND) Difference Algorithm)."""

from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from itertools import groupby, pairwise

from profiler.data.events import Block, Events, alive_at, first_event, place_of

MOST_DIFFERENCES = 2000  # time and memory go with its square: some three seconds


def align(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Positions (i, j) with a[i] == b[j], rising in both: as many as there can be.

    Past `MOST_DIFFERENCES` insertions and deletions the rest is left without partners.
    """
    trail: list[array[int]] = []  # by cost: on each diagonal i - j from -cost to cost in steps of 2, how far into `a`
    for cost in range(min(len(a) + len(b), MOST_DIFFERENCES) + 1):
        row = array("l")
        for diagonal in range(-cost, cost + 1, 2):
            i = _reach(trail, cost, diagonal)[1]
            j = i - diagonal
            while i < len(a) and j < len(b) and a[i] == b[j]:
                i, j = i + 1, j + 1
            row.append(i)
            if i >= len(a) and j >= len(b):
                return _walk_back([*trail, row], i, j)
        trail.append(row)
    cost, row = len(trail) - 1, trail[-1]
    best = max(range(len(row)), key=lambda n: 2 * row[n] - (2 * n - cost))
    return _walk_back(trail, row[best], row[best] - (2 * best - cost))


def _reach(trail: "list[array[int]]", cost: int, diagonal: int) -> tuple[int, int]:
    """Where a way with `cost` differences to this diagonal starts: the diagonal it leaves, and how far into `a` it is then.

    A diagonal is reached from its two neighbours at one difference less, of which the one that has come further is taken.
    """
    if cost == 0:
        return 0, 0
    row = trail[cost - 1]
    left = (diagonal - 1 + cost - 1) // 2
    if diagonal == -cost or (diagonal != cost and row[left] < row[left + 1]):
        return diagonal + 1, row[left + 1]
    return diagonal - 1, row[left] + 1


def _walk_back(trail: "list[array[int]]", i: int, j: int) -> list[tuple[int, int]]:
    """The matches on the way from the start to (i, j)."""
    pairs: list[tuple[int, int]] = []
    for cost in range(len(trail) - 1, -1, -1):
        before, start = _reach(trail, cost, i - j)
        while i > start:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        if cost:
            i = trail[cost - 1][(before + cost - 1) // 2]
            j = i - before
    return pairs[::-1]


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
