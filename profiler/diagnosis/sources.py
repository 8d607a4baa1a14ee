"""Where a measured profile comes from: a measurement made now, or a case of a run that kept its allocator's events."""

from io import BytesIO
from pathlib import Path

from profiler.data.events import Stream
from profiler.data.records import Measurement
from profiler.data.stack import DeviceName
from profiler.data.workload import Workload
from profiler.errors import LatentmeterError, UserError
from profiler.files.store import open_run
from profiler.files.streams import read_stream
from profiler.measurement.process import measure_in_process
from profiler.models.spec import ModelSpec


def measure_events(
    workload: Workload, spec: ModelSpec, device: DeviceName, alloc_conf: str | None = None
) -> tuple[Measurement, Stream]:
    """One cold call in a process of its own, with its allocator's events. Raises LatentmeterError where that fails."""
    outcome = measure_in_process(workload, spec, device, warm_calls=0, events=True, alloc_conf=alloc_conf)
    if outcome.measurement is None or outcome.events is None:
        failure = outcome.failure.message if outcome.failure else "no events were recorded"
        kind = UserError if outcome.status == "skipped" else LatentmeterError
        raise kind(f"{workload.key}: {outcome.status}: {failure}")
    return outcome.measurement, read_stream(BytesIO(outcome.events))


def read_events(directory: Path, workload: Workload) -> tuple[Measurement, Stream]:
    """The case of a run that is this workload, or else the only one of its model and stage. Raises UserError."""
    store = open_run(directory)
    kept = {
        record.key: (record.measurement, path)
        for record in store.records()
        if record.measurement and (path := store.event_path(record.workload, "measured")).exists()
    }
    wanted = (workload.model, workload.stage)
    alike = {k: case for k, case in kept.items() if (case[0].workload.model, case[0].workload.stage) == wanted}
    found = [case for case in alike.values() if case[0].workload == workload] or list(alike.values())
    if len(found) != 1:
        keys = "\n  ".join(alike or kept) or "none"
        raise UserError(f"{directory}: no single case is {workload.key}; with measured events it has:\n  {keys}")
    measurement, path = found[0]
    return measurement, read_stream(path)
