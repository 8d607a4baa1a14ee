"""Where a stream repeats itself: the layers of a transformer ask for the same bytes in the same order, layer by layer."""

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from profiler.data.events import Block, Events

PROBE = 16  # events that two places have in common before more of them is looked at
ONE_OF = 8  # places that are looked at, by what stands there
TRIED = 4  # places alike that are looked at: a layer repeats itself within, in a smaller way
LONGEST = 3000  # events of a period: a layer's, not those of a denoising step, whose layers then could not be left out
LEAST = 4  # periods that are worth a look


@dataclass(frozen=True)
class Repeat:
    """From event `start` on each is like the one `period` before it, up to `stop`.

    What dies from `start` on was born at most `reach` events before, and all that time is within the repeat.
    """

    start: int
    stop: int
    period: int
    reach: int


def find_repeats(trace: Events) -> list[Repeat]:
    """The repeats of a stream, in their order; none reaches into another.

    Events are alike that an allocator in the same state answers alike: births of as many bytes for the same CUDA stream,
    deaths of what was born as long ago.
    """
    asked: dict[Hashable, int] = {}
    births = [~asked.setdefault(_asked(block), len(asked)) for block in trace.blocks]
    born = [block.born for block in trace.blocks]
    alike = array("q", [births[n] if n >= 0 else event - born[~n] for event, n in enumerate(trace.events)])
    for event in trace.cache_emptied_at.intersection(range(len(alike))):
        alike[event] = event + len(alike)  # like no other
    return list(_find(alike))


def _asked(block: Block) -> Hashable:
    """What an allocator is asked for; and by whom, as calls of smaller pictures ask for less (`Replay.earlier`)."""
    return block.bytes, block.queue, block.awaited, block.term, block.died is None


def _find(events: "array[int]") -> Iterator[Repeat]:
    alike, width = events.tobytes(), events.itemsize

    def same(start: int, stop: int, period: int) -> bool:
        return alike[start * width : stop * width] == alike[(start + period) * width : (stop + period) * width]

    def end_of(place: int, period: int) -> int:
        """How far what stands at `place` and a `period` later is the same."""
        step = PROBE
        while step:
            while place + step + period <= len(events) and same(place, place + step, period):
                place += step
                step *= 2
            step //= 2
        return place + period

    places = defaultdict[bytes, list[int]](list)
    for at, event in enumerate(events[:-PROBE]):
        if event % ONE_OF == 0:
            places[alike[at * width : (at + PROBE) * width]].append(at)
    done = seen = 0
    for place, others in sorted((at, some) for some in places.values() for at in some):
        if place < seen:
            continue
        after = bisect_right(others, place)
        periods = [at - place for at in others[after : after + TRIED] if at - place <= LONGEST]
        stops = [end_of(place, period) for period in periods]
        worth = (p for p, stop in zip(periods, stops, strict=True) if stop - place >= LEAST * max(p, PROBE))
        period = next(worth, 0)
        if not period:
            seen = stops[0] - periods[0] if periods else place  # what stands between comes again as little
            continue
        start, stop = place, stops[periods.index(period)]
        while start > done and same(start - 1, start, period):
            start -= 1
        reach = max(events[start : start + period])  # births are below 0
        if reach > 0 and start + reach + LEAST * period <= stop:  # where nothing dies, no state comes again
            yield Repeat(start + max(reach, period), stop, period, reach)
        done = seen = stop
