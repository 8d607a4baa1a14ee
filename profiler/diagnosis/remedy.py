"""A remedy: an option, and what the peak would be with it."""

from dataclasses import dataclass
from typing import Literal

from profiler.data.units import format_bytes


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """An option, how to ask for it, the peaks with it and without it (bytes), and what it costs besides."""

    name: str
    how: str
    allocated: int
    allocated_before: int
    reserved: int | None
    reserved_before: int | None
    caution: str = ""

    @property
    def lowers(self) -> Literal["allocated", "reserved"]:
        """The quantity that it is for."""
        return "reserved" if self.name == "expandable_segments" else "allocated"

    @property
    def peaks(self) -> tuple[int, int]:
        """That quantity's peak with the option and without it."""
        if self.lowers == "reserved":
            assert self.reserved is not None and self.reserved_before is not None
            return self.reserved, self.reserved_before
        return self.allocated, self.allocated_before

    @property
    def saving(self) -> int:
        """Bytes that the peak is lower by."""
        return self.peaks[1] - self.peaks[0]


def describe_remedy(remedy: Remedy) -> str:
    """What to type and what it is worth."""
    now, before = remedy.peaks
    caution = f"; {remedy.caution}" if remedy.caution else ""
    peaks = f"{format_bytes(now)} {remedy.lowers} instead of {format_bytes(before)}"
    return f"{remedy.how}: {peaks} ({now / before - 1:+.0%}){caution}"
