"""Others' formulas on the rows of a report: how far each is from the measured figure that it is meant for."""

from collections.abc import Mapping, Sequence
from statistics import median

from profiler.comparison.case import Comparison, Pair
from profiler.comparison.figures import figures
from profiler.evidence.peers import QUANTITY, Peer

OURS = "latentmeter"
HEADINGS = {"reserved_growth": "Growth of reserved", "allocated": "Allocated", "weights": "Weights"}
PREDICTORS: dict[str, list[Peer]] = {
    quantity: [peer for peer, meant in QUANTITY.items() if meant == quantity] for quantity in HEADINGS
}
Peers = Mapping[str, Mapping[Peer, int | None]]  # by key of the record, bytes
# By key of the record and by quantity: the pairs of every predictor, this project's first, all with the same measured bytes.
PeerRows = Mapping[str, Mapping[str, Sequence[Pair]]]


def peer_rows(comparisons: Sequence[Comparison], peers: Peers) -> PeerRows:
    """A row for each case that was measured and has formulas."""
    rows = {}
    for comparison in comparisons:
        record = comparison.record
        if record.measurement is None or record.key not in peers:
            continue
        known, ours = figures(record.measurement), figures(record.estimate)
        ours["allocated"] = comparison.allocated.estimated  # on the CPU with what its kernels were measured to borrow
        pairs = {}
        for quantity, names in PREDICTORS.items():
            sizes = [ours.get(quantity), *(peers[record.key].get(name) for name in names)]
            pairs[quantity] = [Pair(estimated=size, measured=known[quantity]) for size in sizes]
        rows[record.key] = pairs
    return rows


def summarize_peers(rows: PeerRows) -> list[str]:
    """Each predictor's median distance from the measured figure, and over how many cases."""
    lines = []
    for quantity, names in PREDICTORS.items():
        parts = []
        for at, name in enumerate([OURS, *names]):
            errors = [pairs[quantity][at].error for pairs in rows.values()]
            known = [abs(error) for error in errors if error is not None]
            if known:
                parts.append(f"{name} {median(known) * 100:.2f} % ({len(known)})")
        if parts:
            lines.append(f"{HEADINGS[quantity]}: {', '.join(parts)}")
    return lines
