"""Sizes: whole numbers of bytes inside the program, text with a unit for a reader."""

import re
from collections.abc import Iterable

from profiler.errors import UserError

MIB = 1 << 20
GIB = 1 << 30
MOST = 1_000_000  # frames, pixels of a side, a batch
MOST_PIXELS = 10**14  # of a batch: that many fp32 activations of 512 channels are 2^58 bytes; torch counts in 64 bits
MOST_CALLS = 1000  # warm calls of one measurement
# Bytes of one element, by this project's names of element types and by torch's.
ELEMENT_BYTES = {
    "fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
}  # fmt: skip


_UNITS = {"": GIB, "G": GIB, "GB": GIB, "GIB": GIB, "M": MIB, "MB": MIB, "MIB": MIB}


def parse_bytes(text: str) -> int:
    """The bytes of `12GiB`, `512 MiB`, or `12GB`, which on a card's box means GiB, as a bare number does.

    Raises UserError.
    """
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?) ?([A-Za-z]*)", str(text).strip())
    if match is None or (unit := _UNITS.get(match[2].upper())) is None:
        raise UserError(f"{text!r} is no memory size; expected one such as 12GiB or 512MiB")
    return round(float(match[1]) * unit)


def is_size(size: object) -> bool:
    """Whether `size` is an int from 1 to `MOST`."""
    return type(size) is int and 0 < size <= MOST  # not isinstance: True is an int, and never a size


def check_size(name: str, size: object) -> None:
    """Raise UserError that names the argument unless `size` is one."""
    if not is_size(size):
        got = "one of many digits" if isinstance(size, int) and abs(size) >= 10**20 else repr(size)
        raise UserError(f"{name}: expected a positive integer, got {got}; at most {MOST:,}")


def check_number(name: str, number: float, most: int = MOST, least: int = 0) -> None:
    """Raise UserError that names the argument unless `number` is one from `least` to `most`: neither inf nor nan."""
    if not isinstance(number, int | float) or not least <= number <= most:
        raise UserError(f"{name}: expected a number from {least:,} to {most:,}, got {number!r}")


def ceil_div(size: int, divisor: int) -> int:
    """`size / divisor`, rounded up."""
    return -(-size // divisor)


def round_up(size: int, multiple: int) -> int:
    """The next multiple of `multiple` that is not below `size`."""
    return ceil_div(size, multiple) * multiple


def less(a: int | None, b: int | None) -> int | None:
    """`a - b`; None where either is unknown."""
    return None if a is None or b is None else a - b


def by(sizes: Iterable[int]) -> str:
    """Sides joined: `480x832`."""
    return "x".join(map(str, sizes))


def format_bytes(size: int | None) -> str:
    """`size` bytes with a binary unit (KiB, MiB, GiB = 2^10, 2^20, 2^30); `unknown` for None."""
    if size is None:
        return "unknown"
    for unit, name, digits in ((GIB, "GiB", 3), (MIB, "MiB", 1), (1024, "KiB", 1)):
        if abs(size) >= unit:
            return f"{size / unit:.{digits}f} {name}"
    return f"{size} B"


def format_percent(ratio: float | None) -> str:
    """A signed ratio as a percentage with two decimals; `unknown` for None."""
    return "unknown" if ratio is None else f"{ratio * 100:+.2f} %"
