"""A model of PyTorch's caching allocator on one stream: what `torch.cuda` would count for a stream of allocations.

Follows c10/cuda/CUDACachingAllocator.cpp (names of its functions in parentheses). Not modelled: cross-stream use, CUDA
graph pools, expandable segments, garbage collection; `cudaMallocAsync` is another allocator altogether.
"""

from bisect import bisect_left
from dataclasses import dataclass

MIB = 1 << 20
MIN_BLOCK = 512
SMALL_SIZE = MIB  # requests up to this come from the small pool
SMALL_SEGMENT = 2 * MIB
LARGE_SEGMENT = 20 * MIB  # segment for a request below MIN_LARGE_ALLOC
MIN_LARGE_ALLOC = 10 * MIB
ROUND_LARGE = 2 * MIB  # segments above MIN_LARGE_ALLOC are multiples of this


class OutOfMemory(MemoryError):
    """A request that does not fit, after every unused segment was given back."""

    def __init__(self, requested: int) -> None:
        super().__init__(f"tried to allocate {requested} bytes")
        self.requested = requested


@dataclass(slots=True, eq=False)
class Block:
    """A piece of a segment; `previous` and `next` are its neighbours in the same segment."""

    address: int
    size: int
    small: bool
    free: bool = True
    requested: int = 0
    previous: "Block | None" = None
    next: "Block | None" = None

    @property
    def order(self) -> tuple[int, int]:
        """Best fit looks for the smallest sufficient block, at the lowest address among equals."""
        return self.size, self.address


class CachingAllocator:
    """Counts allocated, reserved and requested bytes, and their peaks. `capacity` is what segments may take in all."""

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.allocated = self.reserved = self.requested = 0
        self.peak_allocated = self.peak_reserved = self.peak_requested = 0
        self.retries = 0
        self._pools: dict[bool, list[Block]] = {True: [], False: []}
        self._next_address = 1 << 40

    def malloc(self, size: int) -> Block:
        """Allocate `size` > 0 bytes. Raises OutOfMemory."""
        rounded = round_size(size)
        small = rounded <= SMALL_SIZE
        block = self._take_free(rounded, small) or self._new_segment(rounded, small)
        if block is None:
            # The allocator gives back every cached segment that is wholly free, then tries once more.
            self.retries += 1
            self.empty_cache()
            block = self._new_segment(rounded, small)
        if block is None:
            raise OutOfMemory(size)
        self._split(block, rounded)
        block.free, block.requested = False, size
        self.allocated += block.size
        self.requested += size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        self.peak_requested = max(self.peak_requested, self.requested)
        return block

    def free(self, block: Block) -> None:
        """Give `block` back to its pool, merged with free neighbours (try_merge_blocks)."""
        self.allocated -= block.size
        self.requested -= block.requested
        block.free = True
        before, after = block.previous, block.next
        if before is not None and before.free:
            self._remove(before)
            block.address, block.previous = before.address, before.previous
            block.size += before.size
            if block.previous is not None:
                block.previous.next = block
        if after is not None and after.free:
            self._remove(after)
            block.next = after.next
            block.size += after.size
            if block.next is not None:
                block.next.previous = block
        self._insert(block)

    def empty_cache(self) -> None:
        """Return every segment without a used block to the device (release_cached_blocks)."""
        for pool in self._pools.values():
            for block in [b for b in pool if b.previous is None and b.next is None]:
                self._remove(block)
                self.reserved -= block.size

    def reset_peaks(self) -> None:
        """As `torch.cuda.reset_peak_memory_stats`."""
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved
        self.peak_requested = self.requested

    def _take_free(self, size: int, small: bool) -> Block | None:
        pool = self._pools[small]
        index = bisect_left(pool, (size, 0), key=lambda b: b.order)
        return pool.pop(index) if index < len(pool) else None

    def _new_segment(self, size: int, small: bool) -> Block | None:
        segment = segment_size(size)
        if self.capacity is not None and self.reserved + segment > self.capacity:
            return None
        block = Block(self._next_address, segment, small)
        self._next_address += -(-segment // ROUND_LARGE) * ROUND_LARGE
        self.reserved += segment
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        return block

    def _split(self, block: Block, size: int) -> None:
        """Hand out the head, keep the tail (should_split): a large block keeps a tail of up to 1 MiB unsplit."""
        rest = block.size - size
        if rest < MIN_BLOCK if block.small else rest <= SMALL_SIZE:
            return
        tail = Block(block.address + size, rest, block.small, previous=block, next=block.next)
        if block.next is not None:
            block.next.previous = tail
        block.next, block.size = tail, size
        self._insert(tail)

    def _insert(self, block: Block) -> None:
        pool = self._pools[block.small]
        pool.insert(bisect_left(pool, block.order, key=lambda b: b.order), block)

    def _remove(self, block: Block) -> None:
        pool = self._pools[block.small]
        pool.pop(bisect_left(pool, block.order, key=lambda b: b.order))


def round_size(size: int) -> int:
    """The size that a request is rounded up to (round_size, default settings)."""
    return max(MIN_BLOCK, -(-size // MIN_BLOCK) * MIN_BLOCK)


def segment_size(size: int) -> int:
    """The segment that the driver is asked for when no free block fits (get_allocation_size)."""
    if size <= SMALL_SIZE:
        return SMALL_SEGMENT
    if size < MIN_LARGE_ALLOC:
        return LARGE_SEGMENT
    return -(-size // ROUND_LARGE) * ROUND_LARGE


class PlainAllocator:
    """The CPU: every request as asked, nothing cached. `reserved` is None, as there is no such quantity."""

    def __init__(self) -> None:
        self.allocated = self.peak_allocated = 0
        self.reserved = self.peak_reserved = None

    def malloc(self, size: int) -> Block:
        """Allocate `size` bytes."""
        self.allocated += size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return Block(0, size, small=False, free=False, requested=size)

    def free(self, block: Block) -> None:
        """Free `block`."""
        self.allocated -= block.size

    def reset_peaks(self) -> None:
        """Start counting peaks anew."""
        self.peak_allocated = self.allocated
