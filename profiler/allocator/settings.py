"""The caching allocator's settings, as `PYTORCH_ALLOC_CONF` spells them.

Source: c10/core/AllocatorConfig.h and c10/cuda/CUDAAllocatorConfig.h. Settings that change no size are read and left.
"""

from dataclasses import dataclass

from profiler.data.stack import Stack
from profiler.data.units import MIB, round_up
from profiler.errors import UserError

# The allocator's own names and sizes (CUDACachingAllocator.cpp): kMinBlockSize, kSmallSize, kSmallBuffer, kMinLargeAlloc and
# kRoundLarge.
MIN_BLOCK = 512
SMALL_SIZE = MIB  # requests up to this come from the small pool
SMALL_SEGMENT = 2 * MIB
MIN_LARGE_ALLOC = 10 * MIB  # smaller requests get a segment of the large-segment size
ROUND_LARGE = 2 * MIB  # larger ones get multiples of this
WITHOUT_EFFECT = {
    "backend",
    "garbage_collection_threshold",
    "pinned_use_cuda_host_register",
    "pinned_num_register_threads",
}


@dataclass(frozen=True, kw_only=True)
class AllocatorSettings:
    """Sizes in bytes. `max_split` None: no limit; `roundup_divisions` 0: requests are rounded to 512 bytes only."""

    expandable: bool = False
    max_split: int | None = None
    max_non_split_rounding: int = 20 * MIB
    roundup_divisions: int = 0
    large_segment: int = 20 * MIB

    def round(self, size: int) -> int:
        """The size that a request is rounded up to (round_size)."""
        if self.roundup_divisions > 1 and size > MIN_BLOCK * self.roundup_divisions:
            return round_to_division(size, self.roundup_divisions)
        return max(MIN_BLOCK, round_up(size, MIN_BLOCK))

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
    text = stack.settings.get("PYTORCH_ALLOC_CONF") or stack.settings.get("PYTORCH_CUDA_ALLOC_CONF") or ""
    return parse_settings(text)


def parse_settings(text: str) -> AllocatorSettings:
    """Settings of text such as `expandable_segments:True,max_split_size_mb:64`. Raises UserError."""
    values: dict[str, int | bool] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition(":")
        try:
            if name == "expandable_segments":
                values["expandable"] = {"True": True, "False": False}[value]
            elif name == "max_split_size_mb":
                values["max_split"] = int(value) * MIB
            elif name == "max_non_split_rounding_mb":
                values["max_non_split_rounding"] = int(value) * MIB
            elif name == "roundup_power2_divisions":
                values["roundup_divisions"] = int(value)
            elif name == "large_segment_size_mb":
                values["large_segment"] = int(value) * MIB
            elif name not in WITHOUT_EFFECT:
                raise UserError(f"allocator settings: '{name}' is not modelled")
        except (KeyError, ValueError) as error:
            raise UserError(f"allocator settings: cannot read '{part}'") from error
    return AllocatorSettings(**values)  # type: ignore[arg-type]
