"""The answer to `latentmeter hotspots`: one record of plain data over a profile."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from profiler.hotspots import timeline as time
from profiler.hotspots.findings import Finding, find
from profiler.hotspots.lives import Alive, alive_at_peak
from profiler.hotspots.profile import Profile, Source
from profiler.hotspots.remedies import Remedy
from profiler.hotspots.tree import Node, tree
from profiler.hotspots.workspace import Borrower, worst_borrowers
from profiler.records import PeakAt
from profiler.stack import Stack
from profiler.workload import Workload


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


def examine(profile: Profile, remedies: Sequence[Remedy] = (), left_out: dict[str, str] | None = None) -> Hotspots:
    """Everything that a profile says."""
    module, op = profile.ops[profile.peak_op]
    return Hotspots(
        workload=profile.workload,
        stack=profile.stack,
        source=profile.source,
        allocated=profile.peak,
        baseline=profile.baseline,
        reserved=profile.reserved,
        peak_at=PeakAt(module=module, op=op),
        timeline=time.timeline(profile),
        by_module=time.at_peak(profile),
        alive=alive_at_peak(profile),
        modules=tree(profile),
        workspace=worst_borrowers(profile),
        findings=find(profile),
        remedies=remedies,
        left_out=left_out or {},
        notes=profile.notes,
    )
