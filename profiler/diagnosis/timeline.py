"""Bytes alive by module, event by event, over the first call."""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace

from profiler.data.events import Block
from profiler.data.units import ceil_div
from profiler.diagnosis.profile import STANDING, Profile

DEPTH = 3  # of the module paths that bytes are added up by
FEW = 8  # groups, and numbered siblings that are told apart
RESIDENT = (*STANDING, "workspace")


@dataclass(frozen=True)
class Point:
    """The moment after an event: the module and op of the block that came or went, and the bytes alive, by group too."""

    event: int
    module: str
    op: str
    allocated: int
    by_group: tuple[int, ...]


@dataclass(frozen=True)
class Timeline:
    """`groups` name the columns of each point. The events of the call are cut into stretches of equal length, and each
    stretch gives one of the `points`: its moment with the most bytes allocated. `second` is the highest of them in a part of
    the model other than the peak's: where the peak would stand if that part needed less.
    """

    groups: tuple[str, ...]
    points: tuple[Point, ...]
    second: Point | None = None

    @property
    def peak(self) -> Point:
        """The highest moment."""
        return max(self.points, key=lambda point: point.allocated)


def make_timeline(profile: Profile, points: int = 400) -> Timeline:
    """The first call as at most `points` moments; the peak is one of them."""
    group_of = Grouping(profile)
    largest = highest_by_group(profile) if profile.phases else bytes_at_peak(profile)
    named = [name for name in RESIDENT if name in largest]
    named += [name for name in largest if name not in RESIDENT][: FEW - len(named)]
    named.sort(key=lambda name: not name.endswith("weights"))
    column = {name: number for number, name in enumerate(named)}
    alive = [0] * (len(named) + 1)
    stretch = max(1, ceil_div(len(profile.events) - profile.first_event, points))
    best: dict[int, Point] = {}
    for event, block, birth, total in profile.steps():
        size = profile.sizes[block.number]
        alive[column.get(group_of(block), len(named))] += size if birth else -size
        bucket = (event - profile.first_event) // stretch
        if event >= profile.first_event and (bucket not in best or total > best[bucket].allocated):
            best[bucket] = Point(event, profile.module(block), profile.op(block), total, tuple(alive))
    found = Timeline((*named, "other modules"), tuple(best.values()))
    part = group_of.head(found.peak.module)
    others = [point for point in found.points if group_of.head(point.module) != part]
    return replace(found, second=max(others, key=lambda point: point.allocated, default=None))


def bytes_at_peak(profile: Profile) -> dict[str, int]:
    """Bytes alive at the peak by group, largest first."""
    group_of, sums = Grouping(profile), Counter[str]()
    for block in profile.alive:
        sums[group_of(block)] += profile.sizes[block.number]
    return dict(sums.most_common())


def highest_by_group(profile: Profile) -> dict[str, int]:
    """The most bytes that each group ever has, largest first."""
    group_of, now, most = Grouping(profile), Counter[str](), Counter[str]()
    for event, block, birth, _ in profile.steps():
        size, group = profile.sizes[block.number], group_of(block)
        now[group] += size if birth else -size
        most[group] = max(most[group], now[group]) if event >= profile.first_event else now[group]
    return dict(most.most_common())


class Grouping:
    """Names the group of a block: its term where that is weights, inputs or workspace, else the head of its module's path.

    In a whole generation it is the component, its weights apart.
    Where more than eight modules are numbered siblings, they are one group: `blocks.7.attn.to_q` is in `blocks.*`.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.siblings: dict[str, set[str]] = defaultdict(set)
        for module, _ in profile.ops:
            parts = module.split(".")
            for n, part in enumerate(parts):
                if part.isdigit():
                    self.siblings[".".join(parts[:n])].add(part)

    def __call__(self, block: Block) -> str:
        """The name of the group."""
        if block.term == "weights" and self.profile.phases:
            return f"{self.head(self.profile.module(block))} weights"
        if block.term in RESIDENT:
            return block.term
        return self.head(self.profile.module(block))

    def head(self, module: str) -> str:
        """The part of the model that a module belongs to: the first names of its path."""
        if self.profile.phases:
            return module.split(".")[0] or "the stage itself"
        parts = self.pattern(module).split(".")[:DEPTH]
        if "*" in parts:
            parts = parts[: parts.index("*") + 1]
        return ".".join(parts) or "the stage itself"

    def pattern(self, module: str) -> str:
        """The module's path with `*` for each number that has many siblings."""
        parts = module.split(".")
        many = [part.isdigit() and len(self.siblings[".".join(parts[:n])]) > FEW for n, part in enumerate(parts)]
        return ".".join("*" if star else part for part, star in zip(parts, many, strict=True))
