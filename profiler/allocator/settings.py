"""The caching allocator's settings, as far as they change sizes: what `PYTORCH_CUDA_ALLOC_CONF` says, in bytes."""

import math
from dataclasses import dataclass

from profiler.data.alloc_conf import INTERVALS, LARGE_SEGMENT_MB, Release, read_modelled
from profiler.data.stack import Stack
from profiler.data.units import MIB, round_up

# The allocator's own names and sizes (CUDACachingAllocator.cpp): kMinBlockSize, kSmallSize, kSmallBuffer, kMinLargeAlloc and
# kRoundLarge.
MIN_BLOCK = 512
SMALL_SIZE = MIB  # requests up to this come from the small pool
SMALL_SEGMENT = 2 * MIB
MIN_LARGE_ALLOC = 10 * MIB  # smaller requests get a segment of the large-segment size
ROUND_LARGE = 2 * MIB  # larger ones get multiples of this


@dataclass(frozen=True, kw_only=True)
class AllocatorSettings:
    """Sizes in bytes. `max_split` None: no limit; `divisions` by the power of two, empty: rounded to 512 bytes only.

    Pinned blocks are rounded up to `pinned_rounded` and kept when they are free up to `pinned_kept`. `fraction` is the
    share of the card that the process may reserve; above `threshold` of that, garbage is collected.
    """

    expandable: bool = False
    max_split: int | None = None
    max_non_split_rounding: int = LARGE_SEGMENT_MB * MIB
    divisions: tuple[int, ...] = ()
    large_segment: int = LARGE_SEGMENT_MB * MIB
    fraction: float = 1.0
    threshold: float = 0.0
    pinned_rounded: float = math.inf
    pinned_kept: float = math.inf

    def round(self, size: int) -> int:
        """The size that a request is rounded up to (round_size)."""
        if self.divisions:
            divisions = self.divisions[min(max(0, size.bit_length() - MIB.bit_length()), INTERVALS - 1)]
            if divisions > 1 and size > MIN_BLOCK * divisions:
                return round_to_division(size, divisions)
        return max(MIN_BLOCK, round_up(size, MIN_BLOCK))

    def allowed(self, total: int) -> int:
        """What the process may reserve on a card of `total` bytes (setMemoryFraction)."""
        return int(self.fraction * total)

    def garbage_above(self, total: int | None) -> int | None:
        """Reserved bytes above which cached segments are collected. None: never, as without a fraction below 1.

        CUDACachingAllocator.cpp collects only where a fraction was set; from 2.10 on, 1.0 counts as none.
        """
        if not self.threshold or self.fraction == 1.0 or total is None or self.expandable:
            return None
        return int(self.threshold * self.allowed(total))

    def segment_size(self, size: int) -> int:
        """The segment that the driver is asked for when no free block fits (get_allocation_size)."""
        if size <= SMALL_SIZE:
            return SMALL_SEGMENT
        return self.large_segment if size < MIN_LARGE_ALLOC else round_up(size, ROUND_LARGE)


def round_to_division(size: int, divisions: int) -> int:
    """`size` rounded up to the next of `divisions` steps between powers of two (roundup_power2_next_division)."""
    if size & (size - 1) == 0:
        return size
    floor = 1 << (size.bit_length() - 1)
    step = floor >> (divisions.bit_length() - 1)
    if step == 0:
        return floor << 1
    return round_up(size, step)


def settings_of(stack: Stack) -> AllocatorSettings:
    """The settings that a stack's environment asks for. Raises UserError for text that torch would refuse."""
    return parse_settings(stack.alloc_conf, stack.torch_release)


def parse_settings(text: str, release: Release = (2, 13)) -> AllocatorSettings:
    """Settings of text such as `expandable_segments:True,max_split_size_mb:64`.

    Raises UserError for what a torch of `release` would refuse, and for the allocator of the driver.
    """
    values = read_modelled(text, release)
    split, large = values.get("max_split_size_mb"), values.get("large_segment_size_mb", LARGE_SEGMENT_MB)
    return AllocatorSettings(
        expandable=values.get("expandable_segments", False),
        max_split=None if split is None else split * MIB,
        max_non_split_rounding=values.get("max_non_split_rounding_mb", LARGE_SEGMENT_MB) * MIB,
        divisions=values.get("roundup_power2_divisions", ()),
        large_segment=large * MIB,
        fraction=values.get("per_process_memory_fraction", 1.0),
        threshold=values.get("garbage_collection_threshold", 0.0),
        pinned_rounded=values.get("pinned_max_round_threshold_mb", math.inf) * MIB,
        pinned_kept=values.get("pinned_max_cached_size_mb", math.inf) * MIB,
    )
