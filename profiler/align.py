"""The longest common subsequence of two sequences that differ little (Myers 1986, An O(ND) Difference Algorithm)."""

from collections.abc import Hashable, Sequence

MOST_DIFFERENCES = 1000  # time and memory go with its square


def align(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Positions (i, j) with a[i] == b[j], rising in both: as many as there can be.

    Past `MOST_DIFFERENCES` insertions and deletions the rest is left without partners.
    """
    furthest: dict[int, int] = {1: 0}  # on diagonal i - j: how far into `a`
    trail: list[dict[int, int]] = []
    for cost in range(min(len(a) + len(b), MOST_DIFFERENCES) + 1):
        trail.append(furthest.copy())
        for diagonal in range(-cost, cost + 1, 2):
            down = diagonal == -cost or (diagonal != cost and furthest[diagonal - 1] < furthest[diagonal + 1])
            i = furthest[diagonal + 1] if down else furthest[diagonal - 1] + 1
            j = i - diagonal
            while i < len(a) and j < len(b) and a[i] == b[j]:
                i, j = i + 1, j + 1
            furthest[diagonal] = i
            if i >= len(a) and j >= len(b):
                return _walk_back(trail, i, j)
    diagonal = max(range(-cost, cost + 1, 2), key=lambda d: 2 * furthest[d] - d)
    return _walk_back(trail, furthest[diagonal], furthest[diagonal] - diagonal)


def _walk_back(trail: list[dict[int, int]], i: int, j: int) -> list[tuple[int, int]]:
    """The matches on the way from the start to (i, j)."""
    pairs: list[tuple[int, int]] = []
    for cost in range(len(trail) - 1, -1, -1):
        furthest, diagonal = trail[cost], i - j
        down = diagonal == -cost or (diagonal != cost and furthest[diagonal - 1] < furthest[diagonal + 1])
        before = diagonal + 1 if down else diagonal - 1
        start = furthest[before] if down else furthest[before] + 1
        while i > start:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        i = furthest[before]
        j = i - before
    return pairs[::-1]
