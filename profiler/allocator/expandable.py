"""The caching allocator with `expandable_segments:True`: one address range a pool, physical pages mapped on demand.

`reserved` counts mapped bytes. A free block may grow into unmapped space behind it, so best fit compares what a block
could become. Functions of c10/cuda/CUDACachingAllocator.cpp stand in parentheses.
"""

from bisect import bisect_left
from dataclasses import dataclass

from profiler.allocator.caching import MIN_BLOCK, SMALL_SEGMENT, Block, CachingAllocator, cut, join


@dataclass(slots=True, eq=False)
class Range(Block):
    """A block of an expandable segment: `unit` is its page size, `base` the segment's first address."""

    mapped: bool = True
    unit: int = SMALL_SEGMENT
    base: int = 0


class ExpandableAllocator(CachingAllocator):
    """`device_total` bytes decide how long an address range is (9/8 of it). Segment counters stay 0, as torch's do."""

    def __init__(self, device_total: int, capacity: int | None = None, **rest: object) -> None:
        super().__init__(capacity, **rest)  # type: ignore[arg-type]
        self._device_total = device_total
        self._unmapped: dict[bool, list[Range]] = {True: [], False: []}

    def free(self, block: Block) -> None:
        """Give `block` back, merged with free neighbours that are mapped as it is."""
        self.allocated -= block.size
        self.requested -= block.requested
        block.free = True
        for neighbour in (block.previous, block.next):
            self._merge(_range(block), neighbour)
        self._insert(block)

    def empty_cache(self) -> None:
        """Unmap every whole page that free blocks cover (unmap_block)."""
        for pool in self._pools.values():
            for _, _, block in list(pool):
                self._unmap(_range(block))

    def _take_free(self, size: int, small: bool) -> Block | None:
        pool = self._pools[small]
        index = bisect_left(pool, (size, 0))
        if index == len(pool):
            return None
        while index + 1 < len(pool) and _could_become(pool[index + 1][2]) < _could_become(pool[index][2]):
            index += 1
        return pool.pop(index)[2]

    def _new_segment(self, size: int, small: bool) -> Block | None:
        """Map pages for `size` bytes where free space is (try_allocate_expandable_block)."""
        if self._above_limit(self.settings.segment_size(size)):
            return None
        block = self._find_space(size, small)
        if not block.mapped and not self._map(block, min(block.size, size)):
            return None
        while block.size < size:
            following = _range(block.next)
            if not self._map(following, min(size - block.size, following.size)):
                return None
            block = following  # mapping merged what stood before into it
        self._remove(block)
        return block

    def _find_space(self, size: int, small: bool) -> Range:
        """A run of free blocks that is long enough, or a new address range (find_expandable_block)."""
        for candidate in sorted(self._unmapped[small], key=lambda b: b.address):
            first = candidate
            if first.previous is not None and first.previous.free:
                first = _range(first.previous)
            total, block = 0, first
            while total < size and block is not None and block.free:
                total += block.size
                block = block.next  # type: ignore[assignment]
            if total >= size:
                return first
        unit = SMALL_SEGMENT if small else self.settings.large_segment
        length = (self._device_total + self._device_total // 8 + unit - 1) // unit * unit
        fresh = Range(self._next_address, length, small, mapped=False, unit=unit, base=self._next_address)
        self._next_address += length + 2 * SMALL_SEGMENT
        self._unmapped[small].append(fresh)
        return fresh

    def _map(self, block: Range, size: int) -> bool:
        """Map the head of an unmapped block, in whole pages (map_block)."""
        pages = -(-size // block.unit) * block.unit
        if not self._has_room(pages):
            return False
        self._unmapped[block.small].remove(block)
        block.mapped = True
        if pages < block.size:
            rest = self._cut(block, pages)
            rest.mapped = False
            self._unmapped[block.small].append(rest)
        for neighbour in (block.previous, block.next):
            self._merge(block, neighbour)
        self._insert(block)
        self._reserve(pages)
        return True

    def _unmap(self, block: Range) -> None:
        start = block.base + -(-(block.address - block.base) // block.unit) * block.unit
        end = block.base + (block.address + block.size - block.base) // block.unit * block.unit
        if start >= end:
            return
        self._remove(block)
        if start > block.address:
            head = block
            block = self._cut(head, start - head.address)
            self._insert(head)
        if end < block.address + block.size:
            self._insert(self._cut(block, end - block.address))
        block.mapped = False
        self.reserved -= block.size
        for neighbour in (block.previous, block.next):
            self._merge(block, neighbour)
        if block.previous is not None or block.next is not None:
            self._unmapped[block.small].append(block)

    def _merge(self, block: Range, neighbour: Block | None) -> None:
        if neighbour is None or not neighbour.free or _range(neighbour).mapped != block.mapped:
            return
        if block.mapped:
            self._remove(neighbour)
        else:
            self._unmapped[neighbour.small].remove(_range(neighbour))
        join(block, neighbour)

    def _should_split(self, block: Block, size: int) -> bool:
        return block.size - size >= MIN_BLOCK

    def _split(self, block: Block, size: int) -> None:
        if self._should_split(block, size):
            self._insert(self._cut(_range(block), size))

    def _cut(self, block: Range, size: int) -> Range:
        tail = _range(cut(block, size))
        tail.mapped, tail.unit, tail.base = block.mapped, block.unit, block.base
        return tail

    def _release_oversize(self, size: int) -> bool:
        return False


def _range(block: Block | None) -> Range:
    assert isinstance(block, Range)
    return block


def _could_become(block: Block) -> int:
    """The size of a free block with the unmapped space behind it."""
    following = block.next
    return block.size + (following.size if isinstance(following, Range) and not following.mapped else 0)
