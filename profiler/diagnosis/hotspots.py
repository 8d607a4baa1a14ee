"""The answer to `latentmeter hotspots`: everything that a profile says, as one record of plain data."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from profiler.data.memory import PeakAt, Verdict, when
from profiler.data.spans import Span
from profiler.data.stack import Stack
from profiler.data.units import format_bytes
from profiler.data.workload import Workload
from profiler.diagnosis.borrowers import Borrower, worst_borrowers
from profiler.diagnosis.dead_weight import find_dead_weight
from profiler.diagnosis.findings import Finding, find_all
from profiler.diagnosis.lives import SMALL, Alive, alive_at_peak, short_name
from profiler.diagnosis.profile import STANDING, Generated, Profile, Source
from profiler.diagnosis.remedies import Remedy, describe_remedy, estimate_remedies
from profiler.diagnosis.timeline import Timeline, bytes_at_peak, make_timeline
from profiler.diagnosis.tree import Node, make_tree
from profiler.estimation.stack_notes import stack_notes
from profiler.kernels.cudnn_plans import Sources

if TYPE_CHECKING:
    from torch import nn

    from profiler.models.spec import ModelSpec

DEPTH = 4  # of rows in the tree


@dataclass(frozen=True, kw_only=True)
class Hotspots:
    """Where the bytes of one workload are. `by_module` adds up to `allocated`; `modules` begin with the stage itself.

    `left_out` says of each option that is no remedy why it is none; `phases` are those of a generation's call that is told;
    `verdict` whether an estimate fits its card.
    """

    workload: Workload | Generated
    stack: Stack
    source: Source
    allocated: int
    baseline: int
    reserved: int | None
    peak_at: PeakAt
    timeline: Timeline
    by_module: dict[str, int]
    alive: Sequence[Alive]
    modules: Sequence[Node]
    workspace: Sequence[Borrower]
    findings: Sequence[Finding]
    remedies: Sequence[Remedy] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    phases: Sequence[Span] = ()
    verdict: Verdict | None = None
    notes: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data; a remedy with its saving, a finding with those of its options that help."""
        data = asdict(self)
        data["fits"] = None if self.verdict is None else self.verdict != "does not fit"
        for remedy, plain in zip(self.remedies, data["remedies"], strict=True):
            plain["saving"] = remedy.saving
        return data

    @property
    def made(self) -> list[Alive]:
        """What is alive at the peak and did not stand there before the call, largest first."""
        return [item for item in self.alive if item.why not in STANDING]

    @property
    def answer(self) -> tuple[str, str]:
        """In two lines: the peak and where it is, and what lowers it most."""
        place = f"{self.peak_at.module or 'the stage itself'} ({short_name(self.peak_at.op)})"
        peak = self.timeline.peak.event
        place += "".join(f", {when(phase)}" for phase in self.phases if phase.start <= peak < phase.stop)
        best = next((remedy for remedy in self.remedies if remedy.lowers == "allocated"), None)
        lower = describe_remedy(best) if best else "nothing that was tried lowers it" if self.left_out else ""
        fits = f"; {self.verdict} on {self.stack.gpu}" if self.verdict else ""
        return f"{format_bytes(self.allocated)} allocated at the peak, in {place}{fits}", lower

    @property
    def second(self) -> str:
        """The highest moment elsewhere, in words; empty where all that is high is in one module."""
        point = self.timeline.second
        if point is None or point.allocated <= self.baseline:
            return ""
        return f"{format_bytes(point.allocated)} in {point.module or 'the stage itself'} ({short_name(point.op)})"

    def remedies_of(self, finding: Finding) -> list[Remedy]:
        """The remedies that a finding's options turned out to be, best first."""
        return [remedy for remedy in self.remedies if remedy.name in finding.options]

    def share_of(self, node: Node) -> float:
        """The module's share of the peak, its weights included: 0.5 is half."""
        return (node.at_peak + node.weights) / self.allocated

    def visible_modules(self) -> Iterator[tuple[int, str, Node]]:
        """Modules worth a row: how deep it is indented, its path from the row that it stands under, and the node.

        Neighbours with equal figures, as the blocks of a transformer, share a row: `blocks.0 and 29 alike`.
        """
        shown: list[str] = []
        nodes = [node for node in self.modules if not node.path or (node.calls and self.share_of(node) > SMALL)]
        for _, group in groupby(
            nodes, key=lambda n: (n.path.rpartition(".")[0], n.kind, n.weights, n.own_peak, n.peak, n.at_peak)
        ):
            alike = list(group)
            first = alike[0]
            while shown and shown[-1] and not first.path.startswith(shown[-1] + "."):
                shown.pop()
            if len(shown) <= DEPTH:
                name = first.path.removeprefix(shown[-1]).lstrip(".") if shown else "the stage"
                yield len(shown), name + (f" and {len(alike) - 1} alike" if len(alike) > 1 else ""), first
            shown.append(first.path)


def summarize(profile: Profile, remedies: Sequence[Remedy] = (), left_out: dict[str, str] | None = None) -> Hotspots:
    """Everything that a profile says; `remedies` and `left_out` as `estimate_remedies` gives them."""
    module, op = profile.ops[profile.peak_op]
    return Hotspots(
        workload=profile.workload,
        stack=profile.stack,
        source=profile.source,
        allocated=profile.peak,
        baseline=profile.baseline,
        reserved=profile.reserved,
        peak_at=PeakAt(module=module, op=op),
        timeline=make_timeline(profile),
        by_module=bytes_at_peak(profile),
        alive=alive_at_peak(profile),
        modules=make_tree(profile),
        workspace=worst_borrowers(profile),
        findings=[*find_all(profile), *find_dead_weight(profile)],
        phases=[*profile.phases],
        remedies=remedies,
        left_out=left_out or {},
        verdict=profile.verdict,
        notes=stack_notes(profile.stack, Counter(kernel.name for kernel in profile.usage.kernels.values()), Sources())
        | profile.notes,
    )


def summarize_with_remedies(
    profile: Profile, spec: "ModelSpec", module: "nn.Module | None", context_bytes: int | None = None
) -> Hotspots:
    """The same with the remedies of its findings, estimated on the stage's own `module`; without them where it is None."""
    if module is None:
        return summarize(profile)
    wanted = [name for finding in find_all(profile) for name in finding.options]
    assert isinstance(profile.workload, Workload)
    asked = (wanted, profile.workload, spec, profile.stack, module, context_bytes)
    return summarize(profile, *estimate_remedies(*asked, profile if profile.source == "estimated" else None))
