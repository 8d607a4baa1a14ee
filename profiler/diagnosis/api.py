"""The verb: a model and a stage in, hot spots and the profile behind them out."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from profiler.data.records import Measurement
from profiler.data.stack import DeviceName
from profiler.data.workload import StageName, Workload
from profiler.errors import LatentmeterError, UserError
from profiler.files.store import RunStore
from profiler.machine.target import target_stack
from profiler.models.find import find_model
from profiler.models.spec import ModelSpec

if TYPE_CHECKING:
    from profiler.data.events import Stream
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
    run: Path | None = None,
    remedies: bool = True,
    **workload: Any,
) -> "tuple[Hotspots, Profile]":
    """Hot spots of one stage, and the profile that they were read from.

    Without a GPU by default, arguments as for `profiler.estimate`; measured here on `device`, or taken from the run in
    folder `run`. Raises UserError, ModelError, and LatentmeterError where a measurement fails.
    """
    spec = find_model(model)
    asked = spec.workload(stage, **workload)

    from profiler.diagnosis.collect import estimated, measured
    from profiler.diagnosis.findings import find
    from profiler.diagnosis.remedies import remedies as estimate_remedies
    from profiler.diagnosis.summary import examine

    if device is not None or run is not None:
        source = _from_run(run, asked) if run is not None else _measure(asked, spec, device or "cuda")
        profile, ran = measured(source[0], spec, source[1])
    else:
        profile, ran = estimated(asked, spec, target_stack(gpu, torch, cudnn)[0])
    if not remedies:
        return examine(profile), profile
    wanted = [name for finding in find(profile) for name in finding.options]
    return examine(profile, *estimate_remedies(wanted, profile.workload, spec, profile.stack, ran.module)), profile


def _measure(workload: Workload, spec: ModelSpec, device: DeviceName) -> "tuple[Measurement, Stream]":
    """One cold call in a process of its own, its allocator's history recorded beside it."""
    from profiler.files.streams import read_stream
    from profiler.measurement.process import measure_in_process

    with TemporaryDirectory(prefix="latentmeter-") as folder:
        path = Path(folder, "events.json.gz")
        outcome = measure_in_process(workload, spec, device, warm_calls=0, events=path)
        if outcome.measurement is None or not path.exists():
            failure = outcome.failure.message if outcome.failure else "no events were recorded"
            raise LatentmeterError(f"{workload.key}: {outcome.status}: {failure}")
        return outcome.measurement, read_stream(path)


def _from_run(directory: Path, workload: Workload) -> "tuple[Measurement, Stream]":
    """The case of a run that is this workload, or else the one of its model and stage."""
    from profiler.files.streams import read_stream

    store = RunStore(directory)
    store.header()
    kept = [
        record
        for record in store.records()
        if record.measurement and store.event_path(record.workload, "measured").exists()
    ]
    alike = [r for r in kept if (r.workload.model, r.workload.stage) == (workload.model, workload.stage)]
    found = [record for record in alike if record.workload == workload] or alike
    if len(found) != 1:
        keys = "\n  ".join(record.key for record in alike or kept) or "none"
        raise UserError(f"{directory}: no single case is {workload.key}; with measured events it has:\n  {keys}")
    assert found[0].measurement is not None
    return found[0].measurement, read_stream(store.event_path(found[0].workload, "measured"))
