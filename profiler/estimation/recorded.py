"""A user's own recordings: made of one workload, and kept on the disk."""

import time
from dataclasses import dataclass, replace
from typing import Any

from profiler.data.stack import Stack
from profiler.data.workload import Workload
from profiler.errors import UserError
from profiler.estimation.cache import EstimateCache
from profiler.estimation.recorder import Recorder, Tell
from profiler.estimation.recording import grid_of
from profiler.estimation.size_functions import Grid
from profiler.files.cache import is_on


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What became of recording a workload: the sizes for which it holds and its file, or the `reason` why there is none.

    `made` is the day of a recording that was there already.
    """

    workload: Workload
    stack: Stack
    grids: tuple[Grid, ...] = ()
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
    others: list[dict[str, Any]] = []
    for path, day, recordings in () if force else known.recordings():
        grids = tuple(map(grid_of, recordings))
        if any(grid.holds(known.size) for grid in grids):
            return replace(found, grids=grids, path=str(path), bytes=path.stat().st_size, made=day)
        others += recordings
    made = Recorder(known.workload, known.spec, known.stack, tell).recordings()
    if isinstance(made, str):
        return replace(found, reason=made, seconds=time.perf_counter() - started)
    try:
        path = known.keep_recordings(made := made + others)
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"the recording cannot be written: {error}") from error
    grids = tuple(map(grid_of, made))
    return replace(found, grids=grids, path=str(path), bytes=size, seconds=time.perf_counter() - started)
