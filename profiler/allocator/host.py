"""The host's memory of a trace: pageable bytes as asked for, pinned ones as PyTorch's host allocator takes them."""

from collections import Counter

from profiler.allocator.settings import AllocatorSettings


class Host:
    """Counts what lies on the host. `peak` is the highest sum of pageable and pinned bytes.

    CachingHostAllocatorImpl (ATen/core/CachingHostAllocator.h) rounds each pinned block up to a power of two and gives none
    back: a freed one waits for the next request of its size. The settings' limits: a larger one is not rounded, or not kept.
    """

    def __init__(self, settings: AllocatorSettings) -> None:
        self._kept, self._rounded = settings.pinned_kept, min(settings.pinned_rounded, settings.pinned_kept)
        self.pageable = self.pinned = self.peak_pageable = self.peak = 0
        self._spare: Counter[int] = Counter()

    def take(self, size: int, *, pinned: bool = False) -> None:
        if not pinned:
            self.pageable += size
        elif self._spare[_power_of_two(size)]:
            self._spare[_power_of_two(size)] -= 1
        else:
            self.pinned += self._size(size)
        self.peak_pageable = max(self.peak_pageable, self.pageable)
        self.peak = max(self.peak, self.pageable + self.pinned)

    def give_back(self, size: int, *, pinned: bool = False) -> None:
        if pinned and size > self._kept:
            self.pinned -= self._size(size)
        elif pinned:
            self._spare[_power_of_two(size)] += 1
        else:
            self.pageable -= size

    def _size(self, size: int) -> int:
        return size if size > self._rounded else _power_of_two(size)


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length() if size else 0
