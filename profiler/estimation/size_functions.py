"""Numbers of a trace as functions of its size: height, width, frames and batch.

Along each side a number is straight, also where sides come together: a + b*h + c*w + d*h*w, and so with frames. Sizes that
decide it are the corners of the grid. Sides that a model halves, rounding, are counted in such halves. A number is the same
for every batch, or so many for each sample, or straight in the batch alone; one more size says which. All further sizes must
agree, or the number is no such function.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import isqrt, prod
from typing import Any

from profiler.data.workload import Workload
from profiler.estimation.turns import Cycle
from profiler.kernels.prices import Elsewhere

Size = tuple[int, int, int, int]  # height and width in pixels, frames, batch
Function = list[int]  # the rounding, what the batch does, then a, b, c, d, ...: those of `sides` in binary order
CONSTANT, EACH, STRAIGHT = range(3)  # what the batch does
# How often a side is halved, rounding down (even) or up (odd): 0 for the side itself, 2 for n // 2, 3 for (n + 1) // 2, ...
ROUNDINGS = (0, *range(2, 14))


def size_of(workload: Workload) -> Size:
    """Height, width, frames and batch of a workload."""
    return workload.height, workload.width, workload.frames, workload.batch


@dataclass(frozen=True)
class Grid:
    """Sizes `first + step * k` up to `last`, for height, width and frames; batches from `batch` to `most`, None: any.

    Those in `apart` are none of them. With `pixels` only sizes of so many, height times width, at least and at most. With
    `cycles` a step more of frames is a turn more of each. `images` are the most frames of all samples, `volume` the most
    pixels of those.
    """

    first: tuple[int, int, int]
    step: tuple[int, int, int]
    last: tuple[int, int, int]
    batch: int = 1
    most: int | None = None
    apart: tuple[tuple[int, int, int], ...] = ()
    pixels: tuple[int, int] | None = None
    cycles: tuple[Cycle, ...] = ()
    images: int | None = None
    volume: int | None = None

    def holds(self, size: Size) -> bool:
        """Whether a size is one of these."""
        each = zip(size, self.first, self.step, self.last, strict=False)
        within = self.batch <= size[3] and (self.most is None or size[3] <= self.most) and size[:3] not in self.apart
        for limit, parts in ((self.images, size[2:]), (self.volume, size)):
            within = within and (limit is None or prod(parts) <= limit)
        if self.pixels:
            within = within and self.pixels[0] <= size[0] * size[1] <= self.pixels[1]
        return within and all(first <= n <= last and (n - first) % step == 0 for n, first, step, last in each)

    def more(self, size: Size) -> int:
        """By how many steps of frames a size is more than the least."""
        return (size[2] - self.first[2]) // self.step[2]

    def at_turn(self, size: Size, turn: int) -> Size:
        """The size whose clip ends with this turn."""
        return (*size[:2], self.first[2] + turn * self.step[2], size[3])

    @cached_property
    def corners(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """The smallest and the largest size of a box inside: all of it, or a box of the same shape among the `pixels`."""
        if self.pixels is None:
            return self.first, self.last
        (least, most), (step, across, _) = self.pixels, self.step
        low = _up(isqrt(least * self.last[0] // self.last[1]) + 1, self.first[0], step)
        high = _down(isqrt(most * self.last[0] // self.last[1]), self.first[0], step)
        narrow, wide = _up(-(-least // low), self.first[1], across), _down(most // high, self.first[1], across)
        return (low, narrow, self.first[2]), (high, wide, self.last[2])

    @property
    def has_corners(self) -> bool:
        """Whether both sides are of more than one size in the box inside."""
        low, high = self.corners
        return low[0] < high[0] and low[1] < high[1]

    @property
    def sides(self) -> list[int]:
        """The places of those sides of which there is more than one size."""
        low, high = self.corners
        return [place for place in range(3) if low[place] < high[place]]

    def deciding(self) -> Iterator[Size]:
        """The sizes that decide a function: each corner, the first side slowest, then one more batch."""
        for corner in product(*(sorted({a, b}) for a, b in zip(*self.corners, strict=True))):
            yield (corner[0], corner[1], corner[2], self.batch)
        if self.most != self.batch:
            yield (*self.corners[0], self.batch + 1)

    def units(self, size: Size, rounding: int) -> list[int]:
        """The sides that there are sizes of, in steps, halved as often as `rounding` says."""
        halvings, up = divmod(rounding, 2)
        whole = [size[place] // self.step[place] for place in self.sides]
        return [(n + up * ((1 << halvings) - 1)) >> halvings for n in whole]


def _up(side: int, first: int, step: int) -> int:
    """The next of `first + step * k` that is no smaller."""
    return first + max(0, -((first - side) // step)) * step


def _down(side: int, first: int, step: int) -> int:
    """The next of `first + step * k` that is no larger."""
    return first + (side - first) // step * step


class SizeFunctions:
    """Numbers at given sizes, those that decide first, as one number each: itself if it never changes, else `~n` for
    function n."""

    def __init__(self, grid: Grid, sizes: Sequence[Size]) -> None:
        self.grid, self.sizes = grid, sizes
        self.corners = 1 << len(grid.sides)
        self.functions: list[Function] = []
        self._known: dict[tuple[int, ...], int] = {}
        assert list(sizes[: self.corners + (grid.most != grid.batch)]) == list(grid.deciding())

    def of(self, values: Sequence[Any]) -> Any:
        """Nested lists and dicts of such numbers for the same value at every size; other leaves must be equal."""
        first = values[0]
        if isinstance(first, (tuple, list)):
            if len({len(value) for value in values}) > 1:
                raise Elsewhere
            return [self.of(items) for items in zip(*values, strict=True)]
        if isinstance(first, dict):
            return {name: self.of([value[name] for value in values]) for name in first}
        if all(value == first for value in values):
            return first
        if type(first) is not int:
            raise Elsewhere
        return self._function(tuple(values))

    def _function(self, values: tuple[int, ...]) -> int:
        if values not in self._known:
            fits = (self._straight(values, rounding) for rounding in ROUNDINGS)
            found = next((function for function in fits if function and self._agrees(function, values)), None)
            if found is None:
                raise Elsewhere
            self.functions.append(found)
            self._known[values] = ~(len(self.functions) - 1)
        return self._known[values]

    def _agrees(self, function: Function, values: tuple[int, ...]) -> bool:
        return all(value_at(self.grid, function, size) == value for size, value in zip(self.sizes, values, strict=True))

    def _straight(self, values: tuple[int, ...], rounding: int) -> Function | None:
        """The function through the deciding sizes, in sides halved so; None if there is none in whole numbers."""
        grid, batch = self.grid, self.grid.batch
        corners = list(values[: self.corners])
        more = values[self.corners] if grid.most != batch else corners[0]  # at the first corner, one sample more
        if more == corners[0]:
            how = CONSTANT
        elif more * batch == corners[0] * (batch + 1) and not any(corner % batch for corner in corners):
            how, corners = EACH, [corner // batch for corner in corners]
        elif len(set(corners)) == 1:
            slope = more - corners[0]
            return [rounding, STRAIGHT, corners[0] - slope * batch, slope]
        else:
            return None
        low, high = (grid.units(size, rounding) for size in (self.sizes[0], self.sizes[self.corners - 1]))
        spans = [b - a for a, b in zip(low, high, strict=True)]
        for place in range(len(spans)):  # differences along each side turn corners into coefficients
            bit = 1 << (len(spans) - 1 - place)
            corners = [value - corners[i - bit] if i & bit else value for i, value in enumerate(corners)]
        function = [rounding, how]
        for mask, difference in enumerate(corners):
            span = prod(spans[place] for place in range(len(spans)) if mask >> (len(spans) - 1 - place) & 1)
            if not span or difference % span:
                return None
            function.append(difference // span)
        while len(function) > 2 and not function[-1]:
            function.pop()
        return function


def value_at(grid: Grid, function: Function, size: Size) -> int:
    """The number at one size."""
    rounding, how, *numbers = function
    if how == STRAIGHT:
        return numbers[0] + numbers[1] * size[3]
    start = grid.units((*grid.corners[0], 1), rounding)
    steps = [n - first for n, first in zip(grid.units(size, rounding), start, strict=True)]
    total = 0
    for mask, number in enumerate(numbers):
        if number:
            total += number * prod(n for place, n in enumerate(steps) if mask >> (len(steps) - 1 - place) & 1)
    return total * size[3] if how == EACH else total


def is_of_frames(function: Function) -> bool:
    """Whether a number is another for more frames, where there are several numbers of them: its last side."""
    return function[1] != STRAIGHT and any(function[3::2])
