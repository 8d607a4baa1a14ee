"""The sizes of a side by which an estimate is judged."""

from profiler.data.records import Estimate, Measurement
from profiler.data.units import less


def figures(side: Estimate | Measurement | None) -> dict[str, int | None]:
    """The sizes by which a side is judged, in bytes, by the name of their quantity; empty for no side."""
    if side is None:
        return {}
    warm = side.warm if isinstance(side, Estimate) else next((call.peak for call in side.warm[-1:]), None)
    return {
        "allocated": side.peak.allocated_bytes,
        "reserved": side.peak.reserved_bytes,
        "reserved_growth": less(side.peak.reserved_bytes, side.baseline.reserved_bytes),
        "weights": side.terms.weights,
        "warm_allocated": warm.allocated_bytes if warm else None,
        "warm_reserved": warm.reserved_bytes if warm else None,
    }
