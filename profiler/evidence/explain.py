"""Why estimate and measurement of a run's cases differ: from the streams that the run kept, or by an estimate made anew."""

from dataclasses import dataclass
from pathlib import Path

from profiler.data.events import Events
from profiler.data.explanation import Explanation
from profiler.data.records import Record
from profiler.errors import LatentmeterError, UserError
from profiler.files.store import RunStore, open_run


@dataclass(frozen=True)
class Reason:
    """A case and its explanation, or why there is none; `damaged` where a file of its events cannot be read."""

    record: Record
    explanation: Explanation | None
    missing: str = ""
    damaged: bool = False


def explain(directory: str | Path, case: str | None = None, *, again: bool = False) -> list[Reason]:
    """Which bytes of each difference between estimate and measurement belong to which op; see `latentmeter explain`.

    Of every case of the run in `directory`, or of those that `case` names: by a key, or a part of keys. With `again` the
    estimate is made anew, by the rules as they are now. Raises UserError for a case that is not there.
    """
    store = open_run(directory)
    return [reason_of(store, record, again) for record in named(store.records(), case)]


def named(records: list[Record], case: str | None) -> list[Record]:
    """The records whose key is `case`, or else has it as a part; all for None."""
    if case is None:
        return records
    found = [record for record in records if record.key == case] or [record for record in records if case in record.key]
    if not found:
        raise UserError(f"no case {case!r}; the run has:\n  " + "\n  ".join(record.key for record in records))
    return found


def reason_of(store: RunStore, record: Record, again: bool = False) -> Reason:
    """What the streams in `store` say of one record, which need not be in it yet; `again` as for `explain`."""
    try:
        return _explain(store, record, again)
    except UserError as error:  # a damaged file is about its own case: the others have theirs
        return Reason(record, None, str(error), damaged=True)


def _explain(store: RunStore, record: Record, again: bool) -> Reason:
    from profiler.comparison.events import explain_peaks
    from profiler.estimation.estimator import estimate_with_events
    from profiler.files.streams import read_stream
    from profiler.models.find import find_model

    measured, estimated = (store.event_path(record.workload, side) for side in ("measured", "estimated"))
    if record.measurement is None:
        return Reason(record, None, f"{record.status}: nothing was measured")
    if not measured.exists():
        return Reason(record, record.explanation, "" if record.explanation else "the run kept no events")
    events: Events
    if again:
        try:
            spec, stack = find_model(record.workload.model), record.measurement.stack
            context = record.estimate.terms.context if record.estimate else None
            estimate, events = estimate_with_events(record.workload, spec, stack, context_bytes=context)
        except LatentmeterError as error:
            return Reason(record, None, f"no estimate: {error}")
    elif record.estimate is not None and estimated.exists():
        estimate, events = record.estimate, read_stream(estimated)
    else:
        return Reason(record, None, record.notes.get("estimate", "no events of the estimate; --again makes it anew"))
    found = explain_peaks(estimate, record.measurement, events, read_stream(measured))
    return Reason(record, found, "" if found else "a peak is unknown")
