"""The text of `PYTORCH_CUDA_ALLOC_CONF`, read as torch reads it: what torch would refuse is refused here.

Source: c10/core/AllocatorConfig.{h,cpp} and c10/cuda/CUDAAllocatorConfig.{h,cpp}. Limits and spellings are those that torch
2.13 was seen to take and to refuse.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from profiler.errors import UserError

VARIABLE = "PYTORCH_CUDA_ALLOC_CONF"  # every release reads it; where both are set, 2.13 was seen to take this one
OTHER_VARIABLE, OTHER_SINCE = "PYTORCH_ALLOC_CONF", (2, 9)
LARGE_SEGMENT_MB = 20
INTERVALS = 16  # of roundup_power2_divisions: one for each power of two from 1 MiB on, the last for all above
TINY = 2.0**-53  # what 1 is above the double before it: a threshold is neither 0 nor 1
Release = tuple[int, ...]


def read_alloc_conf(text: str, release: Release) -> dict[str, Any]:
    """The values in `text` by their names in torch. Raises UserError for what a torch of `release` would refuse."""
    known = [name for name, (_, since) in OPTIONS.items() if since <= release]
    values: dict[str, Any] = {}
    parts = re.split(r",(?![^\[]*\])", "".join(text.split()))
    for part in parts if parts[-1] else parts[:-1]:  # one comma at the end is allowed
        name, _, value = part.partition(":")
        if name not in known:
            version = ".".join(map(str, release[:2]))
            raise UserError(
                f"allocator settings: torch {version} has no '{name}' in '{text}'; it has {', '.join(known)}"
            )
        try:
            values[name] = OPTIONS[name][0](value)
        except ValueError as error:
            raise UserError(f"allocator settings: cannot read '{part}': {error}") from error
    least = values.get("large_segment_size_mb", LARGE_SEGMENT_MB)
    for name in ("max_split_size_mb", "max_non_split_rounding_mb"):
        if values.get(name, least) < least:
            raise UserError(f"allocator settings: {name} has to be {least} or more, the size of a large segment")
    return values


def read_modelled(text: str, release: Release) -> dict[str, Any]:
    """The same. Raises UserError also for the driver's own allocator, of which there is no model."""
    values = read_alloc_conf(text, release)
    if values.get("backend") == "cudaMallocAsync":
        raise UserError(
            "allocator settings: backend:cudaMallocAsync is not modelled: the driver keeps that pool, not torch; "
            "estimates are for backend:native"
        )
    return values


def _one_of(values: Mapping[str, Any]) -> Callable[[str], Any]:
    def read(value: str) -> Any:
        if value not in values:
            raise ValueError(f"expected {' or '.join(values)}")
        return values[value]

    return read


def _number(least: int = 0, most: int = (1 << 64) - 1, *, power_of_two: bool = False) -> Callable[[str], int]:
    """As std::stoull reads it: the digits at the front, and a negative number counts from 2^64 downwards."""

    def read(value: str) -> int:
        digits = re.match(r"[+-]?\d{1,20}", value)
        number = int(digits[0]) % (1 << 64) if digits else -1
        if not least <= number <= most or (power_of_two and number & (number - 1)):
            raise ValueError(f"expected a {'power of two' if power_of_two else 'whole number'} from {least} to {most}")
        return number

    return read


def _share(least: float, most: float) -> Callable[[str], float]:
    def read(value: str) -> float:
        if not least <= float(value) <= most:
            raise ValueError("expected a share between 0 and 1")
        return float(value)

    return read


_flag, _power_of_two = _one_of({"True": True, "False": False}), _number(1, power_of_two=True)


def _divisions(value: str) -> tuple[int, ...]:
    """One number for all intervals, or a list such as `[256:1,512:2,>:4]`: MiB and divisions, `>` for all above the last.

    The first one stands for all below it as well; an interval that is left out is not divided.
    """
    if not value.startswith("["):
        return (_power_of_two(value),) * INTERVALS
    if not value.endswith("]"):
        raise ValueError("expected ']' at the end")
    divisions, last, below = [0] * INTERVALS, 0, 0
    for part in value[1:-1].split(",") if value != "[]" else ():
        size, _, text = part.partition(":")
        count = 0 if text == "0" else _power_of_two(text)
        if size == ">":
            divisions[last + 1 :] = [count] * (INTERVALS - last - 1)
            continue
        last = min(_power_of_two(size).bit_length() - 1, INTERVALS - 1)
        first = min(below, last)
        divisions[first : last + 1] = [count] * (last + 1 - first)
        below = INTERVALS
    return tuple(divisions)


# How each option is read, and the first release that can have it. Those of 2.9 are in 2.11's library and were not in 2.6's
# source; those of 2.12 are in 2.13's library and not in 2.11's.
OPTIONS: dict[str, tuple[Callable[[str], Any], Release]] = {
    "backend": (_one_of({"native": "native", "cudaMallocAsync": "cudaMallocAsync"}), (0,)),
    "expandable_segments": (_flag, (0,)),
    "max_split_size_mb": (_number(), (0,)),
    "max_non_split_rounding_mb": (_number(), (0,)),
    "roundup_power2_divisions": (_divisions, (0,)),
    "garbage_collection_threshold": (_share(TINY, 1 - TINY), (0,)),
    "release_lock_on_cudamalloc": (_flag, (0,)),
    "release_lock_on_hipmalloc": (_flag, (0,)),
    "pinned_use_cuda_host_register": (_flag, (0,)),
    "pinned_use_hip_host_register": (_flag, (0,)),
    "pinned_num_register_threads": (_number(1, 128, power_of_two=True), (0,)),
    "pinned_use_background_threads": (_flag, (0,)),
    "pinned_reserve_segment_size_mb": (_number(1), (2, 9)),
    "graph_capture_record_stream_reuse": (_flag, (2, 9)),
    "per_process_memory_fraction": (_share(0, 1), (2, 9)),
    "large_segment_size_mb": (_number(11), (2, 9)),
    "throw_on_cudamalloc_oom": (_flag, (2, 12)),
    "pinned_free_catch_all": (_flag, (2, 12)),
    "pinned_max_round_threshold_mb": (_number(), (2, 12)),
    "pinned_max_cached_size_mb": (_number(), (2, 12)),
}
