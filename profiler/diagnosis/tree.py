"""The module tree, with what each module's own ops and its whole subtree make and keep."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from profiler.diagnosis.profile import Profile, ancestors


@dataclass(frozen=True, kw_only=True)
class Node:
    """A module. All in bytes; `own_` counts what its own ops made, the rest its subtree, both without weights and inputs.

    `peak` is the most alive at once, `produced` all that was ever made, `at_peak` what is alive at the stage's peak.
    """

    path: str
    kind: str
    calls: int
    weights: int
    own_peak: int
    peak: int
    produced: int
    at_peak: int


def make_tree(profile: Profile) -> list[Node]:
    """Every module that makes or owns a block, in the order of their paths; the stage itself (empty path) first."""
    own, inclusive, weights = Levels(), Levels(), Counter[str]()
    at_peak = Counter[str]()
    for event, block, birth, _ in profile.steps():
        module, size = profile.module(block), profile.sizes[block.number]
        above = ancestors(module)
        if block.term in ("weights", "inputs"):
            for path in above if birth else ():
                weights[path] += size
            continue
        own.add(module, size if birth else -size)
        for path in above:
            inclusive.add(path, size if birth else -size)
        if event == profile.peak_event:
            at_peak = inclusive.now.copy()
    calls = _calls(profile)
    return [
        Node(
            path=path,
            kind=profile.usage.classes.get(path, ""),
            calls=calls[path],
            weights=weights[path],
            own_peak=own.most[path],
            peak=inclusive.most[path],
            produced=inclusive.produced[path],
            at_peak=at_peak[path],
        )
        for path in sorted({*weights, *inclusive.most}, key=_natural)
    ]


class Levels:
    """Bytes by module: now, the most at once, and all that was ever added."""

    def __init__(self) -> None:
        self.now, self.produced = Counter[str](), Counter[str]()
        self.most: dict[str, int] = defaultdict(int)

    def add(self, path: str, size: int) -> None:
        """Bytes come (positive) or go."""
        self.now[path] += size
        self.produced[path] += max(size, 0)
        self.most[path] = max(self.most[path], self.now[path])


def _calls(profile: Profile) -> Counter[str]:
    """Calls by path. A module that is not in the tree runs under its caller's path and is no call of that."""
    calls = profile.usage.calls
    return Counter(c.path for c in calls if c.path != (calls[c.parent].path if c.parent >= 0 else ""))


def _natural(path: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in path.split(".")] if path else []
