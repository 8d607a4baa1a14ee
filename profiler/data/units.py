"""Sizes for a reader. Inside the program every size is an integer number of bytes."""

MIB = 1 << 20
GIB = 1 << 30


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
