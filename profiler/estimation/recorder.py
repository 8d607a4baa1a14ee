"""Makes the recording of one workload: traces it at a handful of sizes, corners of a rectangle first.

Several rectangles are tried, a wide one first, as a model may take another path through its code at a size far away.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from profiler.data.stack import Stack
from profiler.data.workload import Workload
from profiler.errors import LatentmeterError, UserError
from profiler.estimation.answer import Traced
from profiler.estimation.cache import EstimateCache
from profiler.estimation.estimator import Tracer, trace_stage
from profiler.estimation.recording import Elsewhere, Grid, Sides, grid_of, inner_sizes, record
from profiler.files.cache import is_on
from profiler.models.spec import ModelSpec
from profiler.trace.trace import Trace

# The rectangles to try, as (steps, below, above). It holds every so-many-th size that the model allows, from the smallest
# known size divided by `below` to the largest one times `above`. For a picture of 512 pixels and a step of 8, (1, 4, 2.0)
# is 128, 136, ... 1024. The last has steps of eight, for models that halve the size again and again and round.
REACH = ((1, 4, 2.0), (1, 2, 1.25), (1, 2, 1.0), (1, 1, 1.5), (8, 4, 2.0))
SLOTS: Tracer = partial(Trace, slots=True)
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What became of recording a workload: the sizes for which it holds and its file, or the `reason` why there is none.

    `made` is the day of a recording that was there already.
    """

    workload: Workload
    stack: Stack
    grid: Grid | None = None
    path: str | None = None
    bytes: int | None = None
    reason: str | None = None
    made: str | None = None
    seconds: float = 0.0


def make_recording(known: EstimateCache, tell: Tell = lambda _: None, *, force: bool = False) -> Recorded:
    """Record `known.workload` and keep it, or say which recording holds for it already, unless `force`.

    `tell` hears of every trace. Raises UserError where the disk may not be used.
    """
    if not is_on():
        raise UserError("LATENTMETER_CACHE=off: a recording is a file in the cache's folder; unset the variable")
    started = time.perf_counter()
    found = Recorded(workload=known.workload, stack=known.stack, reason=known.unrecordable)
    if found.reason:
        return found
    for path, kept in known.recordings() if not force else ():
        grid = grid_of(kept["recording"])
        return replace(found, grid=grid, path=str(path), bytes=path.stat().st_size, made=kept["made"])
    made = record_workload(known.workload, known.spec, known.stack, tell)
    if isinstance(made, str):
        return replace(found, reason=made, seconds=time.perf_counter() - started)
    grid, recording = made
    try:
        path = known.keep_recording(recording)
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"the recording cannot be written: {error}") from error
    return replace(found, grid=grid, path=str(path), bytes=size, seconds=time.perf_counter() - started)


def record_workload(
    workload: Workload, spec: ModelSpec, stack: Stack, tell: Tell = lambda _: None
) -> tuple[Grid, dict[str, Any]] | str:
    """The widest recording that holds for `workload`, or why there is none."""
    reason = "the model takes no other height and width"
    for grid in grids(workload, spec):
        try:
            return grid, record(grid, _observe(grid, workload, spec, stack, tell))
        except Elsewhere:
            reason = "at other heights and widths the model runs other operations"
        except LatentmeterError as error:  # a size that the model refuses while it runs
            reason = str(error)
    return reason


def _observe(grid: Grid, workload: Workload, spec: ModelSpec, stack: Stack, tell: Tell) -> dict[Sides, Traced]:
    """The traces that the recording of a grid is made of, by size. Raises Elsewhere at the first that has other events."""
    seen: dict[Sides, Traced] = {}
    sizes = list(dict.fromkeys([*grid.corners(), *inner_sizes(grid, *known_sizes(workload, spec))]))
    for number, (height, width) in enumerate(sizes, start=1):
        tell(f"trace {number} of {len(sizes)}: {height}x{width}")
        found = trace_stage(replace(workload, height=height, width=width), spec, stack, SLOTS).traced
        seen[height, width] = found
        if found.events.events != seen[sizes[0]].events.events:
            raise Elsewhere
    return seen


def grids(workload: Workload, spec: ModelSpec) -> Iterator[Grid]:
    """Rectangles around the asked and the published size, on the sizes that the model's contract allows."""
    known = known_sizes(workload, spec)
    for together, below, above in REACH:
        sides = []
        for side, name in enumerate(("height", "width")):
            low, high = min(size[side] for size in known), max(size[side] for size in known)
            step = together * _step(workload, spec, name)
            asked = known[0][side]
            first = asked - (asked - low // below) // step * step
            sides.append((max(first, asked % step or step), step, asked + int(high * above - asked) // step * step))
        (h0, dh, h1), (w0, dw, w1) = sides
        if h0 < h1 and w0 < w1:
            yield Grid((h0, w0), (dh, dw), (h1, w1))


def known_sizes(workload: Workload, spec: ModelSpec) -> list[Sides]:
    """The asked height and width, and the published ones where they are others."""
    sizes = [(workload.height, workload.width)]
    if spec.default:
        sizes.append((spec.default.height, spec.default.width))
    return list(dict.fromkeys(sizes))


def _step(workload: Workload, spec: ModelSpec, side: str) -> int:
    """The distance to the next size that the contract allows."""
    start: int = getattr(workload, side)
    for step in range(1, start + 1):
        further: dict[str, Any] = {side: start + step}
        try:
            spec.check(replace(workload, **further))
        except UserError:
            continue
        return step
    return 1 << 30  # the model takes this size only
