"""Why an estimated and a measured peak differ, block by block: what `comparison/events.py` finds."""

from dataclasses import dataclass

from profiler.data.units import format_bytes


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Part of a difference at the peak, measured minus estimated: `blocks` of one term that one op made, and `why`."""

    bytes: int
    module: str
    op: str
    term: str
    why: str
    blocks: int = 1

    @property
    def text(self) -> str:
        """Bytes, what and where, in words."""
        what = f" of {self.term}" if self.term else ""
        where = f" in {self.module or 'the stage itself'} ({self.op})" if self.op else ""
        return f"{_signed(self.bytes)}{what} {self.why}{where}"


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Measured minus estimated peak, in bytes, taken apart: causes and `unexplained` add up to `difference`.

    The peak is that of allocated bytes; `reserved` is the same for reserved ones, None where there are none. `paired` blocks
    are in both streams; the others in one.
    """

    difference: int
    causes: tuple[Cause, ...]
    unexplained: int
    paired: int
    only_measured: int
    only_estimated: int
    reserved: "Explanation | None" = None

    @property
    def levels(self) -> "dict[str, Explanation]":
        """This one, of allocated bytes, and that of reserved ones where there is one."""
        return {"allocated": self} | ({"reserved": self.reserved} if self.reserved else {})

    @property
    def text(self) -> str:
        """Of allocated and reserved bytes: how much, on which side, and the three largest causes."""
        if self.reserved is None or self.reserved.summary == self.summary:
            return self.summary
        return f"allocated: {self.summary}; reserved: {self.reserved.summary}"

    @property
    def summary(self) -> str:
        """How much, on which side, and the three largest causes."""
        if not self.difference and not self.causes and not self.unexplained:
            return "equal to the byte"
        parts = [cause.text for cause in self.causes[:3]]
        if len(self.causes) > 3:
            parts.append(f"{len(self.causes) - 3} smaller causes")
        if self.unexplained:
            parts.append(f"{_signed(self.unexplained)} unexplained")
        side = "measured" if self.difference > 0 else "estimated"
        head = f"{side} {format_bytes(abs(self.difference))} more" if self.difference else "equal peaks"
        return f"{head}: {'; '.join(parts)}"


def _signed(size: int) -> str:
    return f"{'+' if size > 0 else '-'}{format_bytes(abs(size))}"
