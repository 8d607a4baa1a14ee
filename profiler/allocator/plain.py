"""The CPU's allocator, which caches nothing."""

from profiler.allocator.caching import Piece, Pool


class PlainAllocator:
    """The CPU: every request as asked, nothing cached. `reserved` is None, as there is no such quantity."""

    def __init__(self) -> None:
        self.allocated = self.peak_allocated = 0
        self.reserved = self.peak_reserved = None
        self.retries = 0
        self._pool = Pool(small=False, queue=0)

    def malloc(self, size: int, queue: int = 0) -> Piece:
        self.allocated += size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return Piece(0, size, self._pool, free=False, requested=size)

    def free(self, block: Piece, *, awaited: bool = False) -> None:
        self.allocated -= block.size

    def empty_cache(self) -> None:
        """Nothing is cached."""

    def unused(self) -> list[Piece]:
        """What is free is nobody's."""
        return []

    def free_now(self) -> None:
        """Nothing is."""

    def reset_peaks(self) -> None:
        self.peak_allocated = self.allocated
