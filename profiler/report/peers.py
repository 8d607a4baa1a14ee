"""Others' formulas on the rows of a report: how far each is from the measured figure that it is meant for."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from profiler.comparison.case import Comparison, Pair, figures
from profiler.evidence.peers import QUANTITY

OURS = "latentmeter"
HEADINGS = {"reserved_growth": "Growth of reserved", "allocated": "Allocated", "weights": "Weights"}
PREDICTORS = [  # a quantity, and who says something of it, this project first
    (quantity, name)
    for quantity in HEADINGS
    for name in (OURS, *(peer for peer, meant in QUANTITY.items() if meant == quantity))
]
Peers = Mapping[str, Mapping[Any, int | None]]  # by key of the record, bytes by `Peer`
# By key of the record, then as in PREDICTORS; the measured bytes of one quantity are the same in all its pairs.
PeerRows = Mapping[str, Mapping[tuple[str, str], Pair]]


def peer_rows(comparisons: Sequence[Comparison], peers: Peers) -> PeerRows:
    """A row for each case that was measured and has formulas."""
    rows = {}
    for comparison in comparisons:
        record = comparison.record
        if record.measurement is None or record.key not in peers:
            continue
        known, ours = figures(record.measurement), figures(record.estimate)
        ours["allocated"] = comparison.allocated.estimated  # on the CPU with what its kernels were measured to borrow
        said = peers[record.key]
        rows[record.key] = {
            (quantity, name): Pair(
                estimated=ours.get(quantity) if name == OURS else said.get(name), measured=known[quantity]
            )
            for quantity, name in PREDICTORS
        }
    return rows


def summarize_peers(rows: PeerRows) -> list[str]:
    """Each predictor's median distance from the measured figure, and over how many cases."""
    parts: dict[str, list[str]] = defaultdict(list)
    for quantity, name in PREDICTORS:
        errors = [abs(error) for pairs in rows.values() if (error := pairs[quantity, name].error) is not None]
        if errors:
            parts[quantity].append(f"{name} {median(errors) * 100:.2f} % ({len(errors)})")
    return [f"{HEADINGS[quantity]}: {', '.join(texts)}" for quantity, texts in parts.items()]
