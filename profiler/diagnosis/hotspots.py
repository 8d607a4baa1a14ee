"""The answer to `latentmeter hotspots`: one record of plain data over a profile."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from profiler.data.records import PeakAt
from profiler.data.stack import Stack
from profiler.data.workload import Workload
from profiler.diagnosis import timeline as time
from profiler.diagnosis.borrowers import Borrower
from profiler.diagnosis.findings import Finding
from profiler.diagnosis.lives import Alive
from profiler.diagnosis.profile import Source
from profiler.diagnosis.remedy import Remedy
from profiler.diagnosis.tree import Node


@dataclass(frozen=True, kw_only=True)
class Hotspots:
    """Where the bytes of one workload are. `by_module` adds up to `allocated`; `modules` begin with the stage itself."""

    workload: Workload
    stack: Stack
    source: Source
    allocated: int
    baseline: int
    reserved: int | None
    peak_at: PeakAt
    timeline: time.Timeline
    by_module: dict[str, int]
    alive: Sequence[Alive]
    modules: Sequence[Node]
    workspace: Sequence[Borrower]
    findings: Sequence[Finding]
    remedies: Sequence[Remedy] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data; a remedy with its saving, a finding with those of its options that help."""
        data = asdict(self)
        for remedy, plain in zip(self.remedies, data["remedies"], strict=True):
            plain["saving"] = remedy.saving
        return data

    def remedies_of(self, finding: Finding) -> list[Remedy]:
        """The remedies that a finding's options turned out to be, best first."""
        return [remedy for remedy in self.remedies if remedy.name in finding.options]


DEPTH = 4  # of rows in the tree


SMALL = 0.02  # of the peak: modules, and lines of the timeline, below it are left out


def visible(found: Hotspots) -> Iterator[tuple[int, str, Node]]:
    """Modules worth a row: depth among those shown, path from the one above, node. Equal numbered neighbours share a row."""
    shown: list[str] = []
    nodes = [node for node in found.modules if not node.path or (node.calls and _share(found, node) > SMALL)]
    for _, group in groupby(nodes, key=lambda n: (_parent(n), n.kind, n.weights, n.own_peak, n.peak, n.at_peak)):
        alike = list(group)
        first = alike[0]
        while shown and shown[-1] and not first.path.startswith(shown[-1] + "."):
            shown.pop()
        if len(shown) <= DEPTH:
            name = first.path.removeprefix(shown[-1]).lstrip(".") if shown else "the stage"
            yield len(shown), name + (f" and {len(alike) - 1} alike" if len(alike) > 1 else ""), first
        shown.append(first.path)


def _share(found: Hotspots, node: Node) -> float:
    return (node.at_peak + node.weights) / found.allocated


def _parent(node: Node) -> str:
    return node.path.rpartition(".")[0]
