"""Bands of sizes in which a model runs the same: of so many pixels at least, and so many at most.

A convolution that is cut above 2 GiB, or that wants 64 bits to count, decides by how many pixels there are. Three ways lead
from the smallest size of a box to the largest: both sides together, one first, the other first. Along each the size at
which something else runs is sought by halves. A band is what all three agree on; what lies between two bands is in none.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from profiler.estimation.size_functions import Grid, Size

LOOKS = 6  # parts of a way at whose ends is looked in any case
CLOSE = 1.01  # sizes whose pixels differ by less are next to each other
Story = Callable[[Size], Hashable]  # what runs at a size; None for a size that the model refuses


def bands(grid: Grid, story: Story) -> Iterator[Grid]:
    """The parts of `grid` in which one story holds, as far as a box with two sides fits into them."""
    first, *others = [_along(way, story) for way in _ways(grid)]
    for name in first:
        ends = [first[name], *(other[name] for other in others if name in other)]
        if name is None or len(ends) <= len(others):
            continue
        band = replace(grid, pixels=(max(low for low, _ in ends), min(high for _, high in ends)))
        if band.has_corners:
            yield band


def _ways(grid: Grid) -> Iterator[list[Size]]:
    sides = zip(grid.first[:2], grid.step[:2], grid.last[:2], strict=True)
    heights, widths = (range(first, last + 1, step) for first, step, last in sides)
    rest = (grid.first[2], grid.batch)
    count = max(len(heights), len(widths)) - 1
    together = [
        (heights[k * (len(heights) - 1) // count], widths[k * (len(widths) - 1) // count]) for k in range(count + 1)
    ]
    yield [(*size, *rest) for size in together]
    yield [*((heights[0], width, *rest) for width in widths), *((height, widths[-1], *rest) for height in heights[1:])]
    yield [*((height, widths[0], *rest) for height in heights), *((heights[-1], width, *rest) for width in widths[1:])]


def _along(way: Sequence[Size], story: Story) -> dict[Hashable, tuple[int, int]]:
    """The least and the most pixels of each story that comes in one piece along a way."""
    stories: dict[int, Hashable] = {}

    def look(start: int, stop: int) -> None:
        for place in (start, stop):
            if place not in stories:
                stories[place] = story(way[place])
        is_close = _pixels(way[stop]) < CLOSE * _pixels(way[start])
        is_short = stories[start] == stories[stop] and stop - start <= len(way) // LOOKS
        if stop - start > 1 and not (is_close or is_short):
            look(start, (start + stop) // 2)
            look((start + stop) // 2, stop)

    look(0, len(way) - 1)
    in_order = groupby(sorted(stories), key=stories.__getitem__)
    pieces = [(one, [_pixels(way[n]) for n in places]) for one, places in in_order]
    named = [one for one, _ in pieces]
    return {one: (pixels[0], pixels[-1]) for one, pixels in pieces if named.count(one) == 1}


def _pixels(size: Size) -> int:
    return size[0] * size[1]
