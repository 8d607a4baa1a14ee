"""Why two reserved peaks differ: which block made each segment, and which one keeps it at the peak.

Reserved bytes grow when no free block is large enough for a new one, and fall when cached segments are given back. Each
such change belongs to the block whose birth, or death, it came with. The blocks of both streams are paired as for the
allocated peak; where a pair changed reserved bytes alike there is nothing to say, and every other change is a cause. They
add up to the difference of the two replays, to the byte.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from profiler.allocator.caching import Piece
from profiler.allocator.histories import allocator_of
from profiler.data.events import Block, Events, first_event, place_of
from profiler.data.explanation import Cause
from profiler.data.stack import Stack


@dataclass
class Segments:
    """A stream replayed up to its reserved peak: by block the bytes by which reserved grew, and who keeps them there."""

    events: Events
    grown: dict[int, int] = field(default_factory=dict)
    keeper: dict[int, Block | None] = field(default_factory=dict)
    peak: int = 0

    @classmethod
    def of(cls, events: Events, stack: Stack, capacity: int | None = None) -> "Segments":
        """Replay `events` through the allocator of `stack`, on a card with `capacity` bytes. Raises OutOfMemory."""
        allocator, found, start = allocator_of(stack, capacity), cls(events), first_event(events)
        live: dict[int, Piece] = {}
        grown: dict[int, int] = defaultdict(int)
        made: dict[int, tuple[int, int]] = {}  # a block's segment: address and end
        segments: dict[int, tuple[int, int]] = {}  # at the peak so far, and what is alive then, in order of address
        there: list[tuple[int, int, int]] = []
        for position, number in enumerate(events.events):
            before = allocator.reserved or 0
            if position in events.cache_emptied_at:
                allocator.empty_cache()
            if number >= 0:
                piece = live[number] = allocator.malloc(events.blocks[number].bytes)
            elif ~number in live:
                allocator.free(live.pop(~number))
            reserved = allocator.reserved or 0
            if change := reserved - before:
                grown[number if number >= 0 else ~number] += change
                if number >= 0 and not piece.unit:
                    made[number] = (piece.address, piece.address + change)
            if position >= start - 1 and reserved > found.peak:
                found.peak, found.grown = reserved, dict(grown)
                there = sorted((piece.address, piece.size, n) for n, piece in live.items())
                segments = dict(made)
        for number, (start_address, end) in segments.items():
            inside = there[bisect_left(there, (start_address,)) : bisect_left(there, (end,))]
            largest = max(inside, key=lambda block: block[1], default=None)
            found.keeper[number] = events.blocks[largest[2]] if largest else None
        return found


def segment_causes(measured: Segments, estimated: Segments, partner: dict[int, int]) -> Iterable[Cause]:
    """Where reserved bytes went another way: measured minus estimated. `partner` as for `pair(measured, estimated)`."""
    back = {b: a for a, b in partner.items()}
    for number, size in measured.grown.items():
        other = estimated.grown.get(partner.get(number, -1), 0)
        if size != other:
            why = "only measured" if number not in partner else "for which the estimate has room"
            yield _cause(measured, number, size - other, "of another size" if other else why)
    for number, size in estimated.grown.items():
        if back.get(number, -1) not in measured.grown:
            why = "only estimated" if number not in back else "for which the measurement has room"
            yield _cause(estimated, number, -size, why)


def _cause(side: Segments, number: int, size: int, why: str) -> Cause:
    block = side.events.blocks[number]
    module, op = place_of(side.events, block)
    if side.grown[number] < 0:
        return Cause(bytes=size, module=module, op=op, term="", why="in cached segments given back")
    keeper = side.keeper.get(number, block)
    kept = " (idle at the peak)" if keeper is None else ""
    if keeper is not None and keeper is not block:
        kept = f" (kept at the peak for {keeper.term} of {' '.join(place_of(side.events, keeper)).strip()})"
    return Cause(bytes=size, module=module, op=op, term=block.term, why=f"in a segment {why}{kept}")
