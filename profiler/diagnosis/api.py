"""The verb: a model and a stage in, hot spots and the profile behind them out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.data.stack import DeviceName
from profiler.data.workload import StageName
from profiler.errors import UserError
from profiler.machine.target import target_stack
from profiler.models.find import find_model

if TYPE_CHECKING:
    from profiler.diagnosis.hotspots import Hotspots
    from profiler.diagnosis.profile import Profile


def hotspots(
    model: str,
    stage: StageName = "decode",
    *,
    gpu: str | None = None,
    torch: str | None = None,
    cudnn: int | None = None,
    device: DeviceName | None = None,
    run: str | Path | None = None,
    remedies: bool = True,
    **workload: Any,
) -> "tuple[Hotspots, Profile]":
    """Hot spots of one stage, and the profile that they were read from.

    Without a GPU by default, arguments as for `profiler.estimate`; measured here on `device`, or taken from the run in
    folder `run`. Raises UserError, ModelError, and LatentmeterError where a measurement fails.
    """
    if sum(bool(source) for source in (device, run, gpu or torch or cudnn)) > 1:
        raise UserError(
            "--device, --measured and the stack of an estimate (--gpu, --torch, --cudnn) exclude each other"
        )
    spec = find_model(model)
    asked = spec.workload(stage, **workload)

    from profiler.diagnosis.collect import estimated, measured
    from profiler.diagnosis.findings import find_all
    from profiler.diagnosis.hotspots import summarize
    from profiler.diagnosis.remedies import estimate_remedies
    from profiler.diagnosis.sources import measure_events, read_events

    if device is None and run is None:
        profile, ran = estimated(asked, spec, target_stack(gpu, torch, cudnn)[0])
    else:
        measurement, events = read_events(Path(run), asked) if run else measure_events(asked, device or "cuda")
        profile, ran = measured(measurement, spec, events)
    if not remedies:
        return summarize(profile), profile
    wanted = [name for finding in find_all(profile) for name in finding.options]
    return summarize(profile, *estimate_remedies(wanted, profile.workload, spec, profile.stack, ran.module)), profile
