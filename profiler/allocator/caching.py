"""A model of PyTorch's caching allocator: what `torch.cuda` would count for a series of allocations.

Follows c10/cuda/CUDACachingAllocator.cpp; the names of its functions stand in parentheses. Expandable segments are in
`expandable.py`. Not modelled: CUDA graph pools; `cudaMallocAsync` is another allocator altogether.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable
from dataclasses import dataclass, field
from math import inf

from profiler.allocator.addresses import Addresses
from profiler.allocator.settings import MIN_BLOCK, ROUND_LARGE, SMALL_SIZE, AllocatorSettings
from profiler.data.units import round_up


class OutOfMemory(MemoryError):
    """A request that does not fit, after every unused segment was given back."""

    def __init__(self, requested: int) -> None:
        super().__init__(f"tried to allocate {requested} bytes")
        self.requested = requested


@dataclass(slots=True, eq=False)
class Pool:
    """Where blocks lie when they are free: each CUDA stream has its own, one for small blocks and one for large ones.

    Best fit takes the smallest sufficient block, at the lowest address among equals: `free` has (size, address, block),
    sorted. `unmapped` has those of an expandable segment that no pages lie under, likewise.
    """

    small: bool
    queue: int
    free: "list[tuple[int, int, Piece]]" = field(default_factory=list)
    unmapped: "list[tuple[int, int, Piece]]" = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Piece:
    """A part of a segment, handed out or free; `previous` and `next` are its neighbours in the same segment.

    Of an expandable segment: `mapped` says whether pages lie under it, `unit` is the size of a page (0 in other segments),
    `base` the segment's first address. `put_back` is the number of searches of its pool before it was last put there.
    """

    address: int
    size: int
    pool: Pool
    free: bool = True
    requested: int = 0
    previous: "Piece | None" = None
    next: "Piece | None" = None
    mapped: bool = True
    unit: int = 0
    base: int = 0
    put_back: int = 0


class CachingAllocator:
    """Counts allocated, reserved and requested bytes, and the peaks of the first two.

    `capacity` is the memory that the device has for segments, or a fraction allows of it; with more than `garbage_above`
    bytes reserved, cached segments are collected before a new one is asked for. Segments' addresses are `falling`, or rise.
    """

    def __init__(
        self,
        capacity: int | None = None,
        settings: AllocatorSettings | None = None,
        garbage_above: int | None = None,
        *,
        falling: bool = True,
    ) -> None:
        self.capacity = capacity
        self._addresses = Addresses(falling=falling)
        self.garbage_above = garbage_above
        self._requests: dict[tuple[int, int], tuple[int, Pool, float]] = {}  # by size and CUDA stream: `_request`
        self._searches = 0  # of the large pool: the clock by which garbage ages
        self.settings = settings or AllocatorSettings()
        self._max_split = self.settings.max_split or inf
        self.allocated = self.reserved = self.requested = 0
        self.peak_allocated = self.peak_reserved = 0
        self.retries = self.ooms = self.segments = self.asked = 0  # `asked`: how often the driver was, or got back
        self._pools: dict[tuple[bool, int], Pool] = {}
        self._awaited: list[Piece] = []

    def malloc(self, size: int, queue: int = 0) -> Piece:
        """Allocate `size` > 0 bytes for the CUDA stream `queue`. Raises OutOfMemory."""
        if self._awaited:
            self._free_awaited()
        rounded, pool, least_rest = self._requests.get((size, queue)) or self._request(size, queue)
        self._searches += not pool.small
        block = self._take_free(rounded, pool) or self._make(size, rounded, pool)
        if block.size - rounded >= least_rest:  # the head is handed out
            rest = cut(block, rounded)
            rest.put_back = self._searches
            insort(pool.free, (rest.size, rest.address, rest))
        block.free, block.requested = False, size
        self.requested += size
        self.allocated = allocated = self.allocated + block.size
        if allocated > self.peak_allocated:
            self.peak_allocated = allocated
        return block

    def _request(self, size: int, queue: int) -> tuple[int, Pool, float]:
        """A request's rounded size, its pool, and the smallest rest of a block that is split off for it."""
        rounded = self.settings.round(size)
        pool = self._pool(rounded <= SMALL_SIZE, queue)
        return self._requests.setdefault((size, queue), (rounded, pool, self._least_rest(rounded, pool)))

    def _pool(self, small: bool, queue: int) -> Pool:
        return self._pools.setdefault((small, queue), Pool(small, queue))

    def _make(self, size: int, rounded: int, pool: Pool) -> Piece:
        """A block of a new segment, whatever has to be given back for it. Raises OutOfMemory."""
        self._collect_garbage()
        block = self._new_segment(rounded, pool)
        if block is None and self._release_oversize(rounded, pool):
            block = self._new_segment(rounded, pool)
        if block is None:
            # The allocator gives back every cached segment that is wholly free, then tries once more.
            self.retries += 1
            self.empty_cache()
            block = self._new_segment(rounded, pool)
        if block is None:
            self.ooms += 1
            raise OutOfMemory(size)
        return block

    def free(self, block: Piece, *, awaited: bool = False) -> None:
        """Give `block` back to its pool.

        Where another stream uses it too (`record_stream`) it is `awaited`: it counts as free, but nobody gets it before
        that stream has come so far. The next request asks (process_events); here the answer is always yes.
        """
        self.allocated -= block.size
        self.requested -= block.requested
        if awaited:
            self._awaited.append(block)
        else:
            self._put_back(block)

    def _put_back(self, block: Piece) -> None:
        """Let `block` swallow its neighbours that are free, and mapped as it is, and be free (free_block)."""
        mapped, previous, following = block.mapped, block.previous, block.next
        free = block.pool.free if mapped else block.pool.unmapped
        if previous is not None and previous.free and previous.mapped == mapped:
            del free[bisect_left(free, (previous.size, previous.address))]
            block.address, block.previous = previous.address, previous.previous
            block.size += previous.size
            if block.previous is not None:
                block.previous.next = block
        if following is not None and following.free and following.mapped == mapped:
            del free[bisect_left(free, (following.size, following.address))]
            block.next = following.next
            block.size += following.size
            if block.next is not None:
                block.next.previous = block
        block.free, block.put_back = True, self._searches
        insort(free, (block.size, block.address, block))

    def _free_awaited(self) -> None:
        while self._awaited:
            self._put_back(self._awaited.pop(0))

    def empty_cache(self) -> None:
        """Return every segment without a used block to the device (release_cached_blocks)."""
        self._free_awaited()
        for pool in self._pools.values():
            for block in [b for _, _, b in pool.free if b.previous is None and b.next is None]:
                self._release(block)

    def unused(self) -> list[Piece]:
        """The pieces that are handed out to nobody."""
        return [block for pool in self._pools.values() for _, _, block in pool.free]

    def free_now(self) -> Hashable | None:
        """Where what is free lies, and how often the driver was asked. Of equal ones, with the same blocks handed out, the
        same requests get the same blocks. None where what happened before plays a part: garbage has an age.
        """
        if self.garbage_above is not None:
            return None
        awaited = tuple(block.address for block in self._awaited)
        return self.asked, awaited, tuple((at, size) for pool in self._pools.values() for size, at, _ in pool.free)

    def reset_peaks(self) -> None:
        """As `torch.cuda.reset_peak_memory_stats`."""
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved

    def _take_free(self, size: int, pool: Pool) -> Piece | None:
        """Best fit; with a maximum split size, neither side of it may use the other's blocks (get_free_block)."""
        index = bisect_left(pool.free, (size,))
        if index == len(pool.free) or (self._max_split < inf and self._is_for_others(pool.free[index][0], size)):
            return None
        return pool.free.pop(index)[2]

    def _is_for_others(self, found: int, size: int) -> bool:
        """Whether a free block of `found` bytes lies on the other side of a maximum split size, or is far too large."""
        limit = self._max_split
        return size < limit <= found or (size >= limit and found >= size + self.settings.max_non_split_rounding)

    def _new_segment(self, size: int, pool: Pool) -> Piece | None:
        segment = self.settings.segment_size(size)
        if not self._has_room(segment):
            return None
        block = Piece(self._addresses.take(round_up(segment, ROUND_LARGE)), segment, pool)
        self.segments += 1
        self._reserve(segment)
        return block

    def _has_room(self, size: int) -> bool:
        return self.capacity is None or self.reserved + size <= self.capacity

    def _reserve(self, size: int) -> None:
        self.asked += 1
        self.reserved += size
        self.peak_reserved = max(self.peak_reserved, self.reserved)

    def _release(self, block: Piece) -> None:
        self._remove(block)
        self._addresses.give_back(block.address, round_up(block.size, ROUND_LARGE))
        self.asked += 1
        self.reserved -= block.size
        self.segments -= 1

    def _collect_garbage(self) -> None:
        """Give back whole large segments, those of more than average age first (garbage_collect_cached_blocks)."""
        if self.garbage_above is None:
            return
        large = [block for pool in self._pools.values() if not pool.small for _, _, block in pool.free]
        whole = [block for block in large if block.previous is None and block.next is None]
        excess = self.reserved - self.garbage_above
        while whole and excess > 0:
            mean = sum(self._searches - block.put_back for block in whole) / len(whole)
            for block in [block for block in whole if self._searches - block.put_back >= mean]:
                whole.remove(block)
                excess -= block.size
                self._release(block)

    def _release_oversize(self, size: int, pool: Pool) -> bool:
        """With a maximum split size, free just enough oversize cached segments (release_available_cached_blocks)."""
        if (limit := self.settings.max_split) is None:
            return False
        wanted, free, found = max(size, limit), self._pool(False, pool.queue).free, 0
        index = bisect_left(free, (wanted,))
        if index < len(free):
            self._release(free[index][2])
            return True
        while index > 0 and found < wanted and free[index - 1][0] >= limit:
            index -= 1
            found += free[index][0]
            self._release(free[index][2])
        return found >= wanted

    def _least_rest(self, size: int, pool: Pool) -> float:
        """The smallest tail that is kept apart (should_split): a large block keeps a tail of up to 1 MiB unsplit."""
        if pool.small:
            return MIN_BLOCK
        return SMALL_SIZE + 1 if size < self._max_split else inf

    def _remove(self, block: Piece) -> None:
        free = block.pool.free if block.mapped else block.pool.unmapped
        del free[bisect_left(free, (block.size, block.address))]


def cut(block: Piece, size: int) -> Piece:
    """Shorten `block` to `size` bytes; returns the rest as its new neighbour, of the same kind."""
    rest, following, unit, base = block.size - size, block.next, block.unit, block.base
    tail = Piece(block.address + size, rest, block.pool, True, 0, block, following, block.mapped, unit, base)
    if following is not None:
        following.previous = tail
    block.next, block.size = tail, size
    return tail
