"""The module tree, with what each module's own ops and its whole subtree make and keep."""

from collections import Counter
from dataclasses import dataclass

from profiler.diagnosis.profile import STANDING, Profile, ancestors

Place = str | tuple[str]  # the path of a module with all below it; in a tuple, of its own ops alone


@dataclass(frozen=True, kw_only=True)
class Node:
    """A module. Sizes are in bytes and, but for `own_peak`, count what it and all modules below it make.

    `peak` is the most that is alive at once, `own_peak` the most that its own ops have alive at once, `produced` all that is
    ever made, `at_peak` what is alive at the stage's peak; weights and inputs are in none of these.
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
    weights, now, most, produced = (Counter[Place]() for _ in range(4))
    at_peak = now
    for event, block, birth, _ in profile.steps():
        module, size = profile.module(block), profile.sizes[block.number]
        above = ancestors(module)
        if block.term in STANDING:
            change = size if birth else -size
            weights.update(dict.fromkeys(above if event <= profile.peak_event else (), change))
            continue
        places: list[Place] = [*above, (module,)]
        for place in places:
            now[place] += size if birth else -size
            most[place] = max(most[place], now[place])
            produced[place] += size if birth else 0
        if event == profile.peak_event:
            at_peak = now.copy()
    calls = _calls(profile)
    return [
        Node(
            path=path,
            kind=profile.usage.classes.get(path, ""),
            calls=calls[path],
            weights=weights[path],
            own_peak=most[path,],
            peak=most[path],
            produced=produced[path],
            at_peak=at_peak[path],
        )
        for path in sorted({path for path in (*weights, *most) if isinstance(path, str)}, key=_natural)
    ]


def _calls(profile: Profile) -> Counter[str]:
    """Calls by path. A module that is not in the tree runs under its caller's path and is no call of that."""
    calls = profile.usage.calls
    return Counter(c.path for c in calls if c.path != (calls[c.parent].path if c.parent >= 0 else ""))


def _natural(path: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in path.split(".")] if path else []
