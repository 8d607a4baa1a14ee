"""The verb: a model and a stage in, hot spots and the profile behind them out."""

from typing import TYPE_CHECKING, Any

from profiler.api import target_stack
from profiler.models.find import find_model
from profiler.workload import StageName

if TYPE_CHECKING:
    from profiler.hotspots.hotspots import Hotspots
    from profiler.hotspots.profile import Profile


def hotspots(
    model: str,
    stage: StageName = "decode",
    *,
    gpu: str | None = None,
    torch: str | None = None,
    cudnn: int | None = None,
    remedies: bool = True,
    **workload: Any,
) -> "tuple[Hotspots, Profile]":
    """Hot spots of one stage, without a GPU; arguments as for `profiler.estimate`. Raises UserError, ModelError."""
    spec = find_model(model)
    asked = spec.workload(stage, **workload)
    stack, _ = target_stack(gpu, torch, cudnn)

    from profiler.hotspots.collect import estimated
    from profiler.hotspots.findings import find
    from profiler.hotspots.hotspots import examine
    from profiler.hotspots.remedies import remedies as estimate_remedies

    profile, ran = estimated(asked, spec, stack)
    if not remedies:
        return examine(profile), profile
    wanted = [name for finding in find(profile) for name in finding.options]
    return examine(profile, *estimate_remedies(wanted, asked, spec, stack, ran.module)), profile
