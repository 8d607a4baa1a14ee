"""The longest common subsequence of two sequences that differ little (Myers 1986, An O(ND) Difference Algorithm)."""

from array import array
from collections.abc import Hashable, Sequence

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
    """The better diagonal to come from at one difference less, and how far into `a` its step leads."""
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
