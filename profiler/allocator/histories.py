"""The process around the call: which allocator it has, and what other histories would make of reserved memory."""

from profiler.allocator.caching import CachingAllocator, PlainAllocator
from profiler.allocator.expandable import ExpandableAllocator
from profiler.allocator.replay import Replay
from profiler.allocator.settings import settings_of
from profiler.data.events import Events
from profiler.data.records import Memory
from profiler.data.stack import Stack


def allocator_of(stack: Stack, capacity: int | None = None) -> CachingAllocator | PlainAllocator:
    """The allocator of `stack`, with the settings of its environment. Raises UserError for settings without a model."""
    if stack.device == "cpu":
        return PlainAllocator()
    settings = settings_of(stack)
    if settings.expandable:
        return ExpandableAllocator(stack.device_total_bytes or capacity or 1 << 37, capacity, settings=settings)
    return CachingAllocator(capacity, settings)


def safe_reserved_bytes(trace: Events, stack: Stack, peak: Memory, warm: Memory) -> int:
    """The highest reserved peak over histories of one process: as asked, a later call, and after a call of half the sizes.

    Not a proof: the worst of the histories replayed. A fuller card needs less, as the allocator gives back what it caches.
    """
    after_smaller = Replay(trace, allocator_of(stack), smaller_first=True)
    found = (peak, warm, after_smaller.peak)
    return max(memory.reserved_bytes or 0 for memory in found)
