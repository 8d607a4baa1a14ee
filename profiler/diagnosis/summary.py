"""Everything that a profile says, as one record."""

from collections.abc import Sequence

from profiler.data.records import PeakAt
from profiler.diagnosis import timeline as time
from profiler.diagnosis.borrowers import worst_borrowers
from profiler.diagnosis.findings import find
from profiler.diagnosis.hotspots import Hotspots
from profiler.diagnosis.lives import alive_at_peak
from profiler.diagnosis.profile import Profile
from profiler.diagnosis.remedy import Remedy
from profiler.diagnosis.tree import tree


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
