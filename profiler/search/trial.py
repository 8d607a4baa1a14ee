"""One setting, estimated: whether it fits, by how much, and what is in the way where it does not."""

from dataclasses import dataclass
from typing import Any

from profiler.data.memory import PhasePeak, Verdict
from profiler.data.records import CallEstimate
from profiler.data.units import format_bytes
from profiler.search.setting import Setting


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A setting and what the estimator says of it; `refused` is why it says nothing, `ram` the bytes that the host has."""

    setting: Setting
    found: CallEstimate | None = None
    refused: str = ""
    ram: int | None = None

    @property
    def verdict(self) -> Verdict:
        """The estimator's own, unless the host has too little memory."""
        if self.found is None or self.lacks_ram:
            return "does not fit"
        return self.found.verdict or "does not fit"

    @property
    def fits(self) -> bool:
        """Whether every call gets through."""
        return self.verdict != "does not fit"

    @property
    def estimate(self) -> CallEstimate:
        """What was found, of a setting that was not refused."""
        assert self.found is not None
        return self.found

    @property
    def capacity(self) -> int:
        """Bytes that torch can take of the card."""
        assert self.estimate.capacity_bytes is not None
        return self.estimate.capacity_bytes

    @property
    def reserved(self) -> int:
        """The most that any call reserves: on this card if it fits, else on a roomy one."""
        return self.estimate.most("reserved")

    @property
    def safe(self) -> int:
        """The most that a process of another past reserves on a roomy card: what fits has room for it."""
        return self.estimate.safe_reserved_bytes or self.reserved

    @property
    def allocated(self) -> int:
        """The most that any call allocates: it has to fit, whatever the allocator does."""
        return self.estimate.most("allocated")

    @property
    def headroom(self) -> int:
        """Bytes of the card that stay free; negative for those that are missing."""
        return self.capacity - self.reserved

    @property
    def host(self) -> int | None:
        """Bytes of the host at most; None for a single stage, of which they are not counted."""
        return self.estimate.host.peak if self.estimate.host else None

    @property
    def lacks_ram(self) -> bool:
        """Whether the host has too little memory."""
        return self.found is not None and self.ram is not None and (self.host or 0) > self.ram

    @property
    def too_large(self) -> list[PhasePeak]:
        """The phases that the card cannot hold whatever the allocator does."""
        return [phase for phase in self.estimate.phases if _allocated(phase) > self.capacity]

    @property
    def highest(self) -> PhasePeak | None:
        """The phase that allocates most; None for a single stage."""
        return max(self.estimate.phases, key=_allocated, default=None)

    @property
    def in_the_way(self) -> list[dict[str, Any]]:
        """What keeps it from fitting, the largest first: phase, op, bytes missing, whose weights. Empty if it fits."""
        if self.found is None:
            return [{"refused": self.refused}]
        if self.fits:
            return []
        at, missing = self.found.peak_at, []
        if self.lacks_ram and self.host and self.ram:
            missing.append(_missing("host memory", self.host, self.ram))
        named = set()
        for phase in sorted(self.too_large, key=_allocated, reverse=True):
            if phase.name not in named:
                named.add(phase.name)
                made = {"weights": phase.weights, "live": phase.live, "activations": phase.activations}
                missing.append(_missing(phase.name, _allocated(phase), self.capacity) | made)
        if not named and self.allocated > self.capacity:
            missing.append(_missing(f"{at.module or 'the stage itself'}: {at.op}", self.allocated, self.capacity))
        if not missing:
            what = "cached and cut memory: tensors alone would have room"
            missing.append(_missing(what, self.reserved, self.capacity))
        if self.found.phases:
            missing[0]["op"] = f"{at.module}: {at.op}"
        return missing

    @property
    def why_not(self) -> str:
        """The same as a line."""
        return "; ".join(_told(part) for part in self.in_the_way)


def _allocated(phase: PhasePeak) -> int:
    return phase.peak.allocated_bytes or 0


def _missing(what: str, size: int, room: int) -> dict[str, Any]:
    return {"what": what, "bytes": size, "missing_bytes": size - room}


def _told(part: dict[str, Any]) -> str:
    if "refused" in part:
        return str(part["refused"])
    parts = f"{part['what']} takes {format_bytes(part['bytes'])}, {format_bytes(part['missing_bytes'])} too many"
    if "weights" not in part:
        return parts
    largest_first = sorted(part["weights"].items(), key=lambda item: -item[1])
    weights = ", ".join(f"{name} {format_bytes(size)}" for name, size in largest_first)
    return f"{parts} (weights: {weights or 'none'}; activations {format_bytes(part['activations'])})"
