"""The caching allocator with `expandable_segments:True`: one address range a pool, physical pages mapped on demand.

`reserved` counts mapped bytes. A free block may grow into unmapped space behind it, so best fit compares what a block
could become. Functions of c10/cuda/CUDACachingAllocator.cpp stand in parentheses.
"""

from bisect import bisect_left

from profiler.allocator.caching import CachingAllocator, Piece, Pool, cut
from profiler.allocator.settings import MIN_BLOCK, SMALL_SEGMENT
from profiler.data.units import round_up


class ExpandableAllocator(CachingAllocator):
    """`device_total` bytes decide how long an address range is (9/8 of it), and a fraction's. Segment counters stay 0."""

    def __init__(self, device_total: int, capacity: int | None = None, **rest: object) -> None:
        super().__init__(capacity, **rest)  # type: ignore[arg-type]
        self._device_total = device_total

    def empty_cache(self) -> None:
        """Unmap every whole page that free blocks cover (unmap_block)."""
        self._free_awaited()
        for pool in self._pools.values():
            for _, _, block in list(pool.free):
                self._unmap(block)

    def unused(self) -> list[Piece]:
        """The pieces that are handed out to nobody, without pages too."""
        return super().unused() + [block for pool in self._pools.values() for _, _, block in pool.unmapped]

    def _take_free(self, size: int, pool: Pool) -> Piece | None:
        free = pool.free
        index = bisect_left(free, (size,))
        if index == len(free):
            return None
        while index + 1 < len(free) and _could_become(free[index + 1][2]) < _could_become(free[index][2]):
            index += 1
        if self._is_for_others(free[index][0], size):
            return None
        return free.pop(index)[2]

    def _new_segment(self, size: int, pool: Pool) -> Piece | None:
        """Map pages for `size` bytes where free space is (try_allocate_expandable_block).

        A fraction is checked against a whole segment, however few pages are mapped then (alloc_block).
        """
        allowed = self.settings.allowed(self._device_total)
        if self.settings.fraction < 1 and self.reserved + self.settings.segment_size(size) > allowed:
            return None
        block = self._find_space(size, pool)
        if not block.mapped and not self._map(block, min(block.size, size)):
            return None
        while block.size < size:
            following = block.next
            assert following is not None  # the run of free blocks is long enough
            if not self._map(following, min(size - block.size, following.size)):
                return None
            block = following  # mapping merged what stood before into it
        self._remove(block)
        return block

    def _find_space(self, size: int, pool: Pool) -> Piece:
        """A run of free blocks that is long enough, or a new address range (find_expandable_block)."""
        for _, candidate in sorted((address, block) for _, address, block in pool.unmapped):
            first = candidate
            if first.previous is not None and first.previous.free:
                first = first.previous
            total = 0
            block: Piece | None = first
            while total < size and block is not None and block.free:
                total += block.size
                block = block.next
            if total >= size:
                return first
        unit = SMALL_SEGMENT if pool.small else self.settings.large_segment
        # A request that is longer than a range cannot be mapped on the card; without a capacity it is counted all the same.
        length = round_up(max(self._device_total + self._device_total // 8, size), unit)
        base = self._addresses.take(length + 2 * SMALL_SEGMENT)
        fresh = Piece(base, length, pool, mapped=False, unit=unit, base=base)
        self._put_back(fresh)
        return fresh

    def _map(self, block: Piece, size: int) -> bool:
        """Map the head of an unmapped block, in whole pages (map_block)."""
        pages = round_up(size, block.unit)
        if not self._has_room(pages):
            return False
        self._remove(block)
        block.mapped = True
        if pages < block.size:
            rest = cut(block, pages)
            rest.mapped = False
            self._put_back(rest)
        self._put_back(block)
        self._reserve(pages)
        return True

    def _unmap(self, block: Piece) -> None:
        start = block.base + round_up(block.address - block.base, block.unit)
        end = block.base + (block.address + block.size - block.base) // block.unit * block.unit
        if start >= end:
            return
        self._remove(block)
        head, tail = None, None
        if start > block.address:
            head, block = block, cut(block, start - block.address)
        if end < block.address + block.size:
            tail = cut(block, end - block.address)
        block.mapped = False
        self.asked += 1
        self.reserved -= block.size
        for part in (head, block, tail):
            if part is not None:
                self._put_back(part)
        if block.previous is None and block.next is None:
            self._remove(block)

    def _least_rest(self, size: int, pool: Pool) -> float:
        return MIN_BLOCK

    def _release_oversize(self, size: int, pool: Pool) -> bool:
        return False


def _could_become(block: Piece) -> int:
    """The size of a free block with the unmapped space behind it."""
    following = block.next
    return block.size + (following.size if following is not None and not following.mapped else 0)
