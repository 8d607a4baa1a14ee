"""What one stream of events takes of memory in processes of several pasts: a fresh one, a later call, a fuller card."""

from functools import cached_property

from profiler.allocator.caching import CachingAllocator, OutOfMemory, PlainAllocator
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
    return CachingAllocator(capacity, settings, garbage_above=settings.garbage_above(stack.device_total_bytes))


class Histories:
    """The answers of one stream on one stack. `context_bytes` is what CUDA takes outside the allocator, None if unknown.

    `fresh` is the replay in a fresh process, by which terms and tensors at the peak are told.
    """

    def __init__(self, events: Events, stack: Stack, context_bytes: int | None = None) -> None:
        self.events, self.stack, self.context_bytes = events, stack, context_bytes
        self.fresh = Replay(events, allocator_of(stack))

    @property
    def baseline(self) -> Memory:
        """Weights and inputs resident."""
        return self._with_device(self.fresh.baseline)

    @property
    def peak(self) -> Memory:
        """The highest moment of the first call."""
        return self._with_device(self.fresh.peak)

    @cached_property
    def later(self) -> Memory:
        """The peak of a second call in the same process."""
        return self.fresh.again()

    @cached_property
    def safe_reserved_bytes(self) -> int | None:
        """The highest reserved peak of three pasts: a fresh process, a later call, and a call of half the sizes before.

        Not a proof: the worst of those replayed. A fuller card needs less, as the allocator gives back what it caches.
        None on the CPU, whose allocator reserves nothing.
        """
        if self.stack.device == "cpu":
            return None
        after_smaller = Replay(self.events, allocator_of(self.stack), smaller_first=True).peak
        return max(memory.reserved_bytes or 0 for memory in (self.fresh.peak, self.later, after_smaller))

    def fits(self) -> tuple[bool | None, str | None]:
        """Whether the allocator gets through on the card while it holds nothing else, and what is to be said of it.

        None where the card's size is not known.
        """
        total, reserved = self.stack.device_total_bytes, self.fresh.peak.reserved_bytes
        if self.stack.device == "cpu" or total is None:
            return None, "the memory of this device is not known"
        unsure = None
        if self.context_bytes is None:
            unsure = (
                "without the CUDA context, whose size on this card is not known: "
                "a card that is full to the brim may not fit"
            )
        capacity = min(total - (self.context_bytes or 0), settings_of(self.stack).allowed(total))
        if reserved is not None and reserved <= capacity:
            return True, unsure
        allocator = allocator_of(self.stack, capacity)
        assert isinstance(allocator, CachingAllocator)
        try:
            squeezed = Replay(self.events, allocator, squeeze=True).squeezed
        except OutOfMemory as error:
            return False, f"no room for {error.requested:,} B with {allocator.allocated:,} B allocated"
        if squeezed:
            return True, f"only with smaller workspaces than planned in {squeezed} convolutions, which may be slower"
        if allocator.retries:
            return True, f"only by giving cached segments back {allocator.retries} times, which stalls the device"
        return True, unsure

    def _with_device(self, memory: Memory) -> Memory:
        """With device bytes, where reserved bytes and the context are known."""
        reserved, context = memory.reserved_bytes, self.context_bytes
        device = None if reserved is None or context is None else reserved + context
        return Memory(allocated_bytes=memory.allocated_bytes, reserved_bytes=reserved, device_bytes=device)
