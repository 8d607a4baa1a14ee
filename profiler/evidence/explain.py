"""Why estimate and measurement of a run's cases differ: from the streams that the run kept, or by an estimate made anew."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from profiler.data.explanation import Explanation
from profiler.data.records import Record
from profiler.errors import LatentmeterError, UserError
from profiler.files.store import RunStore


@dataclass(frozen=True)
class Reason:
    """A case and its explanation, or why there is none."""

    record: Record
    explanation: Explanation | None
    missing: str = ""


def reasons(directory: Path, case: str | None = None, *, again: bool = False) -> list[Reason]:
    """Every case of the run in `directory`, or those that `case` names: by a key, or a part of keys.

    With `again` the estimate is made anew, by the rules as they are now. Raises UserError for a case that is not there.
    """
    store = RunStore(directory)
    store.header()
    return list(_reasons(store, named(store.records(), case), again))


def named(records: list[Record], case: str | None) -> list[Record]:
    """The records whose key is `case`, or else has it as a part; all for None."""
    if case is None:
        return records
    found = [record for record in records if record.key == case] or [record for record in records if case in record.key]
    if not found:
        raise UserError(f"no case {case!r}; the run has:\n  " + "\n  ".join(record.key for record in records))
    return found


def _reasons(store: RunStore, records: list[Record], again: bool) -> Iterator[Reason]:
    from profiler.comparison.events import explain_peaks
    from profiler.estimation.estimator import estimate_with_events
    from profiler.files.streams import read_stream
    from profiler.models.find import find_model

    for record in records:
        paths = [store.event_path(record.workload, side) for side in ("measured", "estimated")]
        if record.measurement is None:
            yield Reason(record, None, f"{record.status}: nothing was measured")
        elif not paths[0].exists():
            yield Reason(record, record.explanation, "" if record.explanation else "the run kept no events")
        elif again:
            try:
                spec, stack = find_model(record.workload.model), record.measurement.stack
                estimate, events = estimate_with_events(record.workload, spec, stack)
                found = explain_peaks(estimate, record.measurement, events, read_stream(paths[0]))
                yield Reason(record, found, "" if found else "a peak is unknown")
            except LatentmeterError as error:
                yield Reason(record, None, f"no estimate: {error}")
        elif record.estimate is None or not paths[1].exists():
            yield Reason(record, None, record.notes.get("estimate", "no events of the estimate; --again makes it anew"))
        else:
            streams = [read_stream(path) for path in paths]
            found = explain_peaks(record.estimate, record.measurement, streams[1], streams[0])
            yield Reason(record, found, "" if found else "a peak is unknown")
