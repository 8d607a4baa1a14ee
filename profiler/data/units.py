"""Sizes: whole numbers of bytes inside the program, text with a unit for a reader."""

MIB = 1 << 20
GIB = 1 << 30
# Bytes of one element, by this project's names of element types and by torch's.
ELEMENT_BYTES = {
    "fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
}  # fmt: skip


def ceil_div(size: int, divisor: int) -> int:
    """`size / divisor`, rounded up."""
    return -(-size // divisor)


def round_up(size: int, multiple: int) -> int:
    """The next multiple of `multiple` that is not below `size`."""
    return ceil_div(size, multiple) * multiple


def format_bytes(size: int | None) -> str:
    """`size` bytes with a binary unit (KiB, MiB, GiB = 2^10, 2^20, 2^30); `unknown` for None."""
    if size is None:
        return "unknown"
    magnitude = abs(size)
    if magnitude >= GIB:
        return f"{size / GIB:.3f} GiB"
    if magnitude >= MIB:
        return f"{size / MIB:.1f} MiB"
    if magnitude >= 1024:
        return f"{size / 1024:.1f} KiB"
    return f"{size} B"


def format_percent(ratio: float | None) -> str:
    """A signed ratio as a percentage with two decimals; `unknown` for None."""
    return "unknown" if ratio is None else f"{ratio * 100:+.2f} %"
