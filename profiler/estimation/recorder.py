"""Makes the recordings of one workload: traces it at a handful of sizes, corners of a box of sizes first.

A wide box is tried first. Where a model takes another path through its code at a size far away, the box is cut at the
published size, and its parts, where that may help, in the middle again; where it takes another path for one sample than for
several, each has boxes.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from math import prod
from typing import Any

from torch import nn

from profiler.data.stack import Stack
from profiler.data.workload import VAE_STAGES, Workload
from profiler.errors import LatentmeterError
from profiler.estimation.answer import Traced
from profiler.estimation.bands import bands
from profiler.estimation.estimator import Tracer, trace_run
from profiler.estimation.reach import at, known_sizes, near, next_to, share, side_of
from profiler.estimation.recording import grid_of, record, replay
from profiler.estimation.size_functions import Grid, Size, size_of
from profiler.estimation.turns import Cycle, cycles_of, rolled
from profiler.kernels.prices import Elsewhere
from profiler.models.spec import ModelSpec
from profiler.stages.stage import Stage
from profiler.trace.trace import Trace

# How often a box is cut where a size and those next to it run the same, and a trace is short: some 80 sizes; else once.
CUTS, SHORT = 3, 5000
LONG = 50_000  # events of a trace at some hundred sizes, which is what bands take
BANDED_BATCHES = (1, 2, 3)
MANY = 64  # samples that are looked at: from so many images on diffusers' Upsample2D runs otherwise
ENOUGH = 0.9  # of the sizes that are asked
# Samples of one recording, from and to: any number, as many as there are, or some numbers one by one.
BATCHES: tuple[Sequence[tuple[int, int | None]], ...] = (
    ((1, None),),
    ((1, 1), (2, None)),
    tuple((n, n) for n in (1, 2, 3, 4)),
)
EVERY = (1, 2, 3, 4)  # steps of frames that one turn of a causal coder may take
SLOTS: Tracer = partial(Trace, slots=True)
Tell = Callable[[str], None]


class Modules:
    """Stages of one model, each on a copy of a module that is built once."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self._module: nn.Module | None = None

    def stage(self, workload: Workload) -> Stage:
        """A stage with a fresh copy of the module, which is faster than to build it each time."""
        stage = Stage(workload, self.spec)
        self._module = self._module or stage.module
        vars(stage)["module"] = _copied(self._module, {})
        return stage


def _copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """As `copy.deepcopy`, in a quarter of its time: most of what it copies is a module's empty tables of hooks."""
    made = module.__class__.__new__(module.__class__)
    memo[id(module)] = made
    for child in module.children():
        memo.get(id(child)) or _copied(child, memo)
    for name, value in vars(module).items():
        is_empty = type(value) in (dict, OrderedDict) and not value
        vars(made)[name] = type(value)() if is_empty else copy.deepcopy(value, memo)
    return made


class Recorder:
    """Traces `workload` at sizes around the asked and the published one, and makes recordings of them."""

    def __init__(self, workload: Workload, spec: ModelSpec, stack: Stack, tell: Tell = lambda _: None) -> None:
        self.workload, self.spec, self.stack, self.tell = workload, spec, stack, tell
        self._seen: dict[Size, Traced | LatentmeterError] = {}
        self.modules = Modules(spec)
        self._published = known_sizes(workload, spec)[-1]

    def recordings(self) -> list[dict[str, Any]] | str:
        """As few as serve the most sizes, or why there is none."""
        asked = size_of(self.workload)
        try:
            self.traced(asked)
        except Elsewhere as error:
            return str(error.__cause__)
        try:
            grids = [*self._grids(asked)]
            return (
                next(filter(None, map(self._whole, grids)), None)
                or self._in_parts(grids[-1])
                or "at other heights and widths the model runs other operations"
            )
        except LatentmeterError as error:
            return str(error)

    def traced(self, size: Size) -> Traced:
        """The trace at a size, made once. Raises Elsewhere for one that the model refuses."""
        if size not in self._seen:
            self.tell(f"trace {len(self._seen) + 1}: {'x'.join(map(str, (size[2], *size[:2])))}, batch {size[3]}")
            workload = at(self.workload, size)
            try:
                watched = trace_run(lambda: self.modules.stage(workload), self.stack, workload.key, SLOTS)
                self._seen[size] = watched.traced
            except LatentmeterError as error:  # a size that the model refuses while it runs
                self._seen[size] = error
        found = self._seen[size]
        if isinstance(found, LatentmeterError):
            raise Elsewhere from found
        return found

    def _alike(self, size: Size, other: Size, grid: Grid) -> bool:
        """Whether the events at a size are those at another, cycles once. One that the model refuses has none."""
        try:
            one, two = (rolled(self.traced(n).events, grid.cycles, grid.more(n)).events for n in (size, other))
        except Elsewhere:
            return False
        return one == two

    def _grids(self, asked: Size) -> Iterator[Grid]:
        """Heights, widths and frames to record, what may serve most first; last, for a coder, the asked frames alone."""
        height, width, frames = (side_of(self.workload, self.spec, name) for name in ("height", "width", "frames"))
        first, step, last = zip(height, width, (asked[2], frames[1], asked[2]), strict=True)
        alone = Grid(first, step, last)
        for every in EVERY if frames[0] < frames[2] else ():
            (start, step_on, end) = side_of(self.workload, self.spec, "frames", every)
            line = Grid((*asked[:2], start), (1, 1, step_on), (*asked[:2], end), asked[3], asked[3])
            if self._recording(line):  # clips of any length run as the asked one, in numbers that are functions of it
                yield replace(alone, first=(*first[:2], start), step=(*step[:2], step_on), last=(*last[:2], end))
                if self.workload.stage not in VAE_STAGES:
                    return
                break
        yield alone

    def _cycles(self, grid: Grid) -> tuple[Cycle, ...]:
        """What comes again in a longer clip. Raises Elsewhere where that runs otherwise."""
        if grid.first[2] == grid.last[2]:
            return ()
        least = (*grid.corners[0], grid.batch)
        short, longer = (self.traced(grid.at_turn(least, turn)).events for turn in (0, 1))
        return cycles_of(short, longer)

    def _whole(self, grid: Grid) -> list[dict[str, Any]]:
        """Recordings of all heights and widths: for any batch, or for batches that run otherwise by themselves."""
        for batches in BATCHES:
            made = [self._recording(replace(grid, batch=batch, most=most)) for batch, most in batches]
            if all(made):
                return [one for part in made for one in part]
        return []

    def _in_parts(self, grid: Grid) -> list[dict[str, Any]]:
        """Recordings of bands of pixels, or of boxes where these serve more of the sizes that are asked."""
        asked = size_of(self.workload)
        events = len(self.traced(asked).events.events)
        made: list[dict[str, Any]] = []
        if grid.first[2] == grid.last[2] and events < LONG:
            for batch in BANDED_BATCHES:
                banded = bands(replace(near(grid, self._published), batch=batch, most=batch), self._story)
                made += [one for band in banded for one in self._recording(band)]
        if self._share(made) >= ENOUGH:
            return made
        batches = BATCHES[0] if self._alike((*asked[:3], 2), asked, grid) else BATCHES[1]
        cuts = CUTS if events < SHORT and any(self._alike(size, asked, grid) for size in next_to(asked, grid)) else 1
        boxes = [one for n, most in batches for one in self._within(replace(grid, batch=n, most=most), cuts)]
        return max(made, boxes, key=self._share)

    def _share(self, made: list[dict[str, Any]]) -> float:
        return share([grid_of(one) for one in made], self._published)

    def _story(self, size: Size) -> int | None:
        """What runs at a size, as a number; None for one that the model refuses."""
        try:
            return hash(tuple(self.traced(size).events.events))
        except Elsewhere:
            return None

    def _within(self, grid: Grid, cuts: int) -> list[dict[str, Any]]:
        """Recordings of a box: one, or those of its parts."""
        found = self._recording(grid)
        if found or not cuts:
            return found
        return [made for part in self._parts(grid) for made in self._within(part, cuts - 1)]

    def _recording(self, grid: Grid) -> list[dict[str, Any]]:
        """The recording of a box; nothing where there is none. A known size that alone is another has one of its own."""
        sizes = self._sizes(grid)
        corners = set(grid.deciding())
        known = [size for size in self._known(grid) if size not in corners]
        with suppress(Elsewhere):  # a number that is no function of the size
            grid = replace(grid, cycles=self._cycles(grid))
            alike = partial(self._alike, sizes[0], grid=grid)
            if all(alike(size) for size in sizes if size not in known):  # the first that is not ends it
                apart = [size for size in known if not alike(size)]
                if all(alike(near) for size in apart for near in next_to(size, grid)):
                    found = {size: self.traced(size) for size in sizes if size not in apart}
                    whole = record(replace(grid, apart=tuple(size[:3] for size in apart)), found)
                    alone = [replace(grid, first=size[:3], last=size[:3], cycles=()) for size in apart]
                    return [self._limited(whole), *(made for one in alone for made in self._recording(one))]
        return []

    def _limited(self, made: dict[str, Any]) -> dict[str, Any]:
        """The recording with the most images for which it holds, where `MANY` samples run otherwise, and the most pixels.

        Diffusers' Upsample2D makes 64 images contiguous first, and what has over 2^30 elements.
        """
        grid = grid_of(made)
        if grid.most is not None:
            return made
        small, large = grid.corners
        samples = self._most(made, small, MANY)
        images = None if samples == MANY else samples * small[2]
        most = MANY if images is None else images // large[2]
        samples = self._most(made, large, most)
        volume = None if samples == most else samples * prod(large)
        return made | {"grid": asdict(replace(grid, images=images, volume=volume))}

    def _most(self, made: dict[str, Any], corner: tuple[int, int, int], limit: int) -> int:
        """The largest batch up to `limit` at which a replay agrees with a trace."""
        holds, fails = grid_of(made).batch, limit + 1
        if self._agrees(made, (*corner, limit)):
            return limit
        while fails - holds > 1:
            middle = (holds + fails) // 2
            holds, fails = (middle, fails) if self._agrees(made, (*corner, middle)) else (holds, middle)
        return holds

    def _agrees(self, made: dict[str, Any], size: Size) -> bool:
        """Whether a replay at a size has the events of a trace there, or refuses."""
        workload = at(self.workload, size)
        with suppress(Elsewhere, LatentmeterError):
            again = replay(made, size, self.stack).events
            trace = trace_run(lambda: self.modules.stage(workload), self.stack, workload.key).trace
            return again.events == trace.events
        return True

    def _known(self, grid: Grid) -> list[Size]:
        """The asked size and the published one, as far as they are on the grid."""
        known = [(h, w, f, grid.batch) for h, w, f in known_sizes(self.workload, self.spec)]
        return [size for size in known if grid.holds(size)]

    def _sizes(self, grid: Grid) -> list[Size]:
        """The sizes that decide, the known ones in the box, and two that share no factor with its corners."""
        inside = self._known(grid)
        for part, more in ((3, 2), (5, 0)):
            sides = [
                first + ((last - first) // step // part | (first < last)) * step
                for first, step, last in zip(grid.first, grid.step, grid.last, strict=True)
            ]
            inside.append((sides[0], sides[1], sides[2], grid.batch + (more if grid.most is None else 0)))
        if grid.pixels:
            inside += sorted(self._seen)[:: max(1, len(self._seen) // 20)]
        return list(dict.fromkeys([*grid.deciding(), *(size for size in inside if grid.holds(size))]))

    def _parts(self, grid: Grid) -> Iterator[Grid]:
        """A box cut in four: at the published size where that is inside, else in the middle."""
        known = self._published
        cuts = []
        for place in range(2):
            first, step, last = grid.first[place], grid.step[place], grid.last[place]
            middle = first + (last - first) // step // 2 * step
            cut = known[place] if first < known[place] < last and (known[place] - first) % step == 0 else middle
            cuts.append([(first, cut), (cut, last)] if first < cut < last else [(first, last)])
        if len(cuts[0]) + len(cuts[1]) == 2:
            return
        for low_h, high_h in cuts[0]:
            for low_w, high_w in cuts[1]:
                yield replace(grid, first=(low_h, low_w, grid.first[2]), last=(high_h, high_w, grid.last[2]))
