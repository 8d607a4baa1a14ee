"""Which sizes the recordings of a workload are to serve: those around the asked and the published one."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import sqrt
from random import Random
from typing import Any

from profiler.data.workload import Workload
from profiler.errors import UserError
from profiler.estimation.size_functions import Grid, Size
from profiler.models.spec import ModelSpec

AREA, ASPECT = (0.25, 2), (0.8, 1.25)  # of a known size, from and to: what is asked
NEAR = (0.4, 1.8)  # of a known side: all that is asked
DRAWS = 200
BELOW, ABOVE = 4, 2  # a box reaches from the smallest known side divided by one to the largest times the other
Side = tuple[int, int, int]  # first, step, last


def at(workload: Workload, size: Size) -> Workload:
    """A workload at another size."""
    height, width, frames, batch = size
    return replace(workload, height=height, width=width, frames=frames, batch=batch)


def known_sizes(workload: Workload, spec: ModelSpec) -> list[tuple[int, int, int]]:
    """The asked height, width and frames, and the published ones where they are others."""
    sizes = [(workload.height, workload.width, workload.frames)]
    if spec.default:
        sizes.append((spec.default.height, spec.default.width, workload.frames))
    return list(dict.fromkeys(sizes))


def side_of(workload: Workload, spec: ModelSpec, name: str, every: int = 1) -> Side:
    """A side to record about its known lengths, at every so many steps that the contract allows: those as the asked one."""
    here: int = getattr(workload, name)
    step = _step_of(workload, spec, name) * every
    known = [size[("height", "width", "frames").index(name)] for size in known_sizes(workload, spec)]
    low, high = min(known) // BELOW, max(known) * ABOVE
    first, last = here - (here - low) // step * step, here + (high - here) // step * step
    return max(first, here % step or step), step, last


def _step_of(workload: Workload, spec: ModelSpec, side: str) -> int:
    """The distance to the next size that the contract allows."""
    start: int = getattr(workload, side)
    for step in range(1, start + 64):
        further: dict[str, Any] = {side: start + step}
        try:
            spec.check(replace(workload, **further))
        except UserError:
            continue
        return step
    return 1 << 30  # the model takes this size only


def next_to(size: Size, grid: Grid) -> Iterator[Size]:
    """The sizes a step higher, lower, wider and narrower, as far as they are on the grid."""
    for place in (0, 1):
        for step in (grid.step[place], -grid.step[place]):
            if grid.first[place] <= size[place] + step <= grid.last[place]:
                yield (*size[:place], size[place] + step, *size[place + 1 :])  # type: ignore[misc]


def near(grid: Grid, known: Sequence[int]) -> Grid:
    """The part of a grid whose heights and widths are not far from the known ones, which are on it."""
    low, high = (
        [side + int((part - 1) * side) // step * step for side, step in zip(known, grid.step, strict=True)]
        for part in NEAR
    )
    (h, w), (height, width) = (max(low[n], grid.first[n]) for n in (0, 1)), (min(high[n], grid.last[n]) for n in (0, 1))
    return replace(grid, first=(h, w, grid.first[2]), last=(height, width, grid.last[2]))


def share(grids: Sequence[Grid], known: Sequence[int]) -> float:
    """How much of what is asked the grids hold: sizes about the known one, and small batches."""
    rng, held = Random(0), 0
    for _ in range(DRAWS if grids else 0):
        side, aspect, batch = sqrt(rng.uniform(*AREA)), rng.uniform(*ASPECT), rng.choice((1, 1, 1, 2, 3))
        drawn = [known[0] * side * aspect, known[1] * side / aspect]
        height, width = (
            n + int(wanted - n) // step * step for n, wanted, step in zip(known, drawn, grids[0].step, strict=False)
        )
        held += any(grid.holds((height, width, known[2], batch)) for grid in grids)
    return held / DRAWS
