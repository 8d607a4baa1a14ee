"""A model of PyTorch's caching allocator: what `torch.cuda` would count for a series of allocations.

Follows c10/cuda/CUDACachingAllocator.cpp; the names of its functions stand in parentheses. Expandable segments are in
`expandable.py`. Not modelled: CUDA graph pools; `cudaMallocAsync` is another allocator altogether.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from dataclasses import dataclass

from profiler.allocator.addresses import Addresses
from profiler.allocator.settings import MIN_BLOCK, ROUND_LARGE, SMALL_SIZE, AllocatorSettings
from profiler.data.units import round_up


class OutOfMemory(MemoryError):
    """A request that does not fit, after every unused segment was given back."""

    def __init__(self, requested: int) -> None:
        super().__init__(f"tried to allocate {requested} bytes")
        self.requested = requested


@dataclass(slots=True, eq=False)
class Piece:
    """A part of a segment, handed out or free; `previous` and `next` are its neighbours in the same segment.

    Of an expandable segment: `mapped` says whether pages lie under it, `unit` is the size of a page (0 in other segments),
    `base` the segment's first address. `put_back` is the number of searches of its pool before it was last put there.
    `queue` is the CUDA stream that its pool serves.
    """

    address: int
    size: int
    small: bool
    free: bool = True
    requested: int = 0
    previous: "Piece | None" = None
    next: "Piece | None" = None
    mapped: bool = True
    unit: int = 0
    base: int = 0
    put_back: int = 0
    queue: int = 0

    @property
    def pool(self) -> "Pool":
        """Where it lies when it is free: each CUDA stream has its own small and large blocks."""
        return self.small, self.queue


Pool = tuple[bool, int]


class CachingAllocator:
    """Counts allocated, reserved and requested bytes, and their peaks.

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
        self._rounded: dict[int, int] = {}  # of each size that was asked for
        self._searches = 0  # of the large pool: the clock by which garbage ages
        self.settings = settings or AllocatorSettings()
        self.allocated = self.reserved = self.requested = 0
        self.peak_allocated = self.peak_reserved = self.peak_requested = 0
        self.retries = self.ooms = self.segments = 0
        # Best fit takes the smallest sufficient block, at the lowest address among equals: (size, address, block), sorted.
        self._pools: defaultdict[Pool, list[tuple[int, int, Piece]]] = defaultdict(list)
        self._awaited: list[Piece] = []

    def malloc(self, size: int, queue: int = 0) -> Piece:
        """Allocate `size` > 0 bytes for the CUDA stream `queue`. Raises OutOfMemory."""
        if self._awaited:
            self._free_awaited()
        rounded = self._rounded.get(size) or self._rounded.setdefault(size, self.settings.round(size))
        pool = (rounded <= SMALL_SIZE, queue)
        self._searches += not pool[0]
        block = self._take_free(rounded, pool) or self._make(size, rounded, pool)
        if block.size > rounded:
            self._split(block, rounded)
        block.free, block.requested = False, size
        self.allocated += block.size
        self.requested += size
        if self.allocated > self.peak_allocated:
            self.peak_allocated = self.allocated
        if self.requested > self.peak_requested:
            self.peak_requested = self.requested
        return block

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
        block.free = True
        self._merge(block)
        self._insert(block)

    def _free_awaited(self) -> None:
        while self._awaited:
            self._put_back(self._awaited.pop(0))

    def empty_cache(self) -> None:
        """Return every segment without a used block to the device (release_cached_blocks)."""
        self._free_awaited()
        for pool in self._pools.values():
            for block in [b for _, _, b in pool if b.previous is None and b.next is None]:
                self._release(block)

    def unused(self) -> list[Piece]:
        """The pieces that are handed out to nobody."""
        return [block for pool in self._pools.values() for _, _, block in pool]

    def reset_peaks(self) -> None:
        """As `torch.cuda.reset_peak_memory_stats`."""
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved
        self.peak_requested = self.requested

    def _take_free(self, size: int, name: Pool) -> Piece | None:
        """Best fit; with a maximum split size, neither side of it may use the other's blocks (get_free_block)."""
        pool = self._pools[name]
        index = bisect_left(pool, (size, 0))
        if index == len(pool):
            return None
        limit = self.settings.max_split
        if limit is not None:
            candidate = pool[index][0]
            if size < limit <= candidate:
                return None
            if size >= limit and candidate >= size + self.settings.max_non_split_rounding:
                return None
        return pool.pop(index)[2]

    def _new_segment(self, size: int, pool: Pool) -> Piece | None:
        segment = self.settings.segment_size(size)
        if not self._has_room(segment):
            return None
        block = Piece(self._addresses.take(round_up(segment, ROUND_LARGE)), segment, pool[0], queue=pool[1])
        self.segments += 1
        self._reserve(segment)
        return block

    def _has_room(self, size: int) -> bool:
        return self.capacity is None or self.reserved + size <= self.capacity

    def _reserve(self, size: int) -> None:
        self.reserved += size
        self.peak_reserved = max(self.peak_reserved, self.reserved)

    def _release(self, block: Piece) -> None:
        self._remove(block)
        self._addresses.give_back(block.address, round_up(block.size, ROUND_LARGE))
        self.reserved -= block.size
        self.segments -= 1

    def _collect_garbage(self) -> None:
        """Give back whole large segments, those of more than average age first (garbage_collect_cached_blocks)."""
        if self.garbage_above is None:
            return
        large = [block for (small, _), pool in self._pools.items() if not small for _, _, block in pool]
        whole = [block for block in large if block.previous is None and block.next is None]
        excess = self.reserved - self.garbage_above
        while whole and excess > 0:
            mean = sum(self._searches - block.put_back for block in whole) / len(whole)
            for block in [block for block in whole if self._searches - block.put_back >= mean]:
                whole.remove(block)
                excess -= block.size
                self._release(block)

    def _release_oversize(self, size: int, name: Pool) -> bool:
        """With a maximum split size, free just enough oversize cached segments (release_available_cached_blocks)."""
        limit = self.settings.max_split
        if limit is None:
            return False
        wanted, pool, found = max(size, limit), self._pools[False, name[1]], 0
        index = bisect_left(pool, (wanted, 0))
        if index < len(pool):
            self._release(pool[index][2])
            return True
        while index > 0 and found < wanted and pool[index - 1][0] >= limit:
            index -= 1
            found += pool[index][0]
            self._release(pool[index][2])
        return found >= wanted

    def _split(self, block: Piece, size: int) -> None:
        """Hand out the head, keep the tail (should_split): a large block keeps a tail of up to 1 MiB unsplit."""
        if self._should_split(block, size):
            self._insert(cut(block, size))

    def _should_split(self, block: Piece, size: int) -> bool:
        rest = block.size - size
        if block.small:
            return rest >= MIN_BLOCK
        return rest > SMALL_SIZE and (self.settings.max_split is None or size < self.settings.max_split)

    def _merge(self, block: Piece) -> None:
        """Let `block` swallow its neighbours that are free, and mapped as it is (try_merge_blocks)."""
        previous, following, mapped = block.previous, block.next, block.mapped
        if previous is not None and previous.free and previous.mapped == mapped:
            self._remove(previous)
            block.address, block.previous = previous.address, previous.previous
            block.size += previous.size
            if block.previous is not None:
                block.previous.next = block
        if following is not None and following.free and following.mapped == mapped:
            self._remove(following)
            block.next = following.next
            block.size += following.size
            if block.next is not None:
                block.next.previous = block

    def _insert(self, block: Piece) -> None:
        block.put_back = self._searches
        insort(self._pools[block.small, block.queue], (block.size, block.address, block))

    def _remove(self, block: Piece) -> None:
        pool = self._pools[block.small, block.queue]
        pool.pop(bisect_left(pool, (block.size, block.address)))


def cut(block: Piece, size: int) -> Piece:
    """Shorten `block` to `size` bytes; returns the rest as its new neighbour, of the same kind."""
    tail = Piece(block.address + size, block.size - size, block.small, True, 0, block, block.next, block.mapped)
    tail.unit, tail.base, tail.queue = block.unit, block.base, block.queue
    if block.next is not None:
        block.next.previous = tail
    block.next, block.size = tail, size
    return tail
