"""Makes the recording for one workload, in a process of its own: `python -m profiler.estimation.recorder MODEL JSON`.

A handful of traces, corners first, at low priority after an answer was given. Tries a wide rectangle of sizes, narrower
ones, then one of sizes that differ by whole multiples of eight steps, for models that round halves.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from filelock import FileLock, Timeout

from profiler.data.records import from_dict
from profiler.data.stack import Stack
from profiler.data.workload import Workload
from profiler.errors import LatentmeterError, UserError
from profiler.estimation.cache import EstimateCache
from profiler.estimation.estimator import Tracer, notes_of, trace_stage
from profiler.estimation.recording import Elsewhere, Grid, Observation, Size, inner_sizes, record
from profiler.files.paths import cache_folder
from profiler.models.find import find_model
from profiler.models.spec import ModelSpec
from profiler.trace.trace import Trace

# Steps taken together; how far below and above the known sizes.
REACH = ((1, 4, 2.0), (1, 2, 1.25), (1, 2, 1.0), (1, 1, 1.5), (8, 4, 2.0))
SLOTS: Tracer = partial(Trace, slots=True)


def record_workload(workload: Workload, spec: ModelSpec, stack: Stack) -> dict[str, object] | None:
    """The recording that holds for `workload` and the sizes around it; None where there can be none."""
    wanted = known_sizes(workload, spec)
    for grid in grids(workload, spec):
        try:
            seen = []
            for size in dict.fromkeys([*grid.corners(), *inner_sizes(grid, *wanted)]):
                seen.append(observe(workload, spec, stack, size))
                if seen[-1].events.events != seen[0].events.events:
                    raise Elsewhere
            return record(grid, seen)
        except (Elsewhere, LatentmeterError):
            continue  # another structure, or a size that the model refuses while it runs
    return None


def observe(workload: Workload, spec: ModelSpec, stack: Stack, size: Size) -> Observation:
    """The trace at one size."""
    here = replace(workload, height=size[0], width=size[1])
    seen = trace_stage(here, spec, stack, SLOTS)
    return Observation(size, seen.trace, seen.run.options, seen.output_shapes, notes_of(seen.trace), seen.run)


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


def known_sizes(workload: Workload, spec: ModelSpec) -> list[Size]:
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


def record_later(workload: Workload, stack: Stack) -> None:
    """Start the recording in a process that outlives this one."""
    task = json.dumps([asdict(workload), asdict(stack)])
    quiet = subprocess.DEVNULL
    command = [sys.executable, "-m", "profiler.estimation.recorder", task]
    subprocess.Popen(command, start_new_session=True, stdin=quiet, stdout=quiet, stderr=quiet)


def main() -> None:
    """Record one workload, unless another process does."""
    os.nice(19)
    workload, stack = (
        from_dict(kind, data) for kind, data in zip((Workload, Stack), json.loads(sys.argv[1]), strict=True)
    )
    spec = find_model(workload.model)
    cache = EstimateCache(workload, spec, stack)
    folder = cache_folder() / "traces"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / f".{cache.key}.lock", timeout=0):
            if cache.wants_recording:
                cache.keep_recording(record_workload(workload, spec, stack))
    except Timeout:
        return


if __name__ == "__main__":
    main()
