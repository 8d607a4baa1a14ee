"""Runs a sweep: case by case, each in its own process, each saved as it ends, and resumed where it stood."""

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from profiler._version import __version__
from profiler.data.events import Events
from profiler.data.records import Estimate, Failure, Record
from profiler.data.stack import Stack
from profiler.errors import LatentmeterError, UserError
from profiler.evidence.explain import reason_of
from profiler.files.store import RunHeader, RunStore
from profiler.files.streams import write_stream
from profiler.machine.cards import Gpu, assumed_stack
from profiler.machine.probe import probe_stack
from profiler.measurement.process import measure_in_process
from profiler.sweeps.plan import Case, Plan, Sweep

logger = logging.getLogger(__name__)
FINAL = ("ok", "oom", "invalid", "skipped")  # a timeout or crash may end otherwise another time: --retry runs it again


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to treat a folder that holds a run, and how long to go on. `budget_minutes` stops cleanly before it is over."""

    force: bool = False
    retry: bool = False
    budget_minutes: float | None = None


@dataclass(frozen=True)
class Progress:
    """Told to the caller before a case (record None) and after it."""

    number: int
    total: int
    case: Case
    record: Record | None = None


def run_sweep(
    plan: Plan,
    directory: Path,
    options: RunOptions | None = None,
    tell: Callable[[Progress], None] = lambda _: None,
) -> list[Record]:
    """Run every case of `plan` that `directory` has no record of; returns all its records. Raises UserError."""
    options = options or RunOptions()
    sweep, cases = plan.sweep, plan.cases
    store = RunStore(directory)
    deadline = None if options.budget_minutes is None else time.monotonic() + options.budget_minutes * 60
    with store.writing():
        stack = probe_stack(sweep.device)
        _open(store, plan, stack, options)
        done = {record.key for record in store.records() if not options.retry or record.status in FINAL}
        logger.info("%d of %d cases have a record in %s", len(done), len(cases), directory)
        for number, case in enumerate(cases, start=1):
            if case.key in done:
                continue
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining < _least_seconds(case):
                logger.info("%s needs %.0f s or more, %.0f s are left", case.key, _least_seconds(case), remaining)
                break
            tell(Progress(number, len(cases), case))
            record = _run_case(case, sweep, stack, store, remaining)
            if record is None:
                break
            store.append(record)
            tell(Progress(number, len(cases), case, record))
        return store.records()


def _open(store: RunStore, plan: Plan, stack: Stack, options: RunOptions) -> None:
    """Begin a run, or go on with the one that is there if it is the same sweep on the same stack."""
    wanted = plan.identity
    if store.exists and options.force:
        store.clear()
    if not store.exists:
        store.begin(
            RunHeader(
                title=plan.sweep.title,
                sweep=wanted,
                command=" ".join(["latentmeter", *sys.argv[1:]]),
                created=_now(),
                fingerprint=stack.fingerprint,
                version=__version__,
            )
        )
        return
    header = store.header()
    if header.sweep != wanted:
        raise UserError(
            f"{store.directory}: holds a run of another sweep, or of models edited since ('{header.title}'); "
            "--force replaces it, --out goes elsewhere"
        )
    if header.fingerprint != stack.fingerprint:
        raise UserError(
            f"{store.directory}: was begun on another stack ({header.fingerprint}, here {stack.fingerprint}: "
            f"{stack.title}); --force replaces it, --out goes elsewhere"
        )


def _run_case(case: Case, sweep: Sweep, stack: Stack, store: RunStore, remaining: float | None) -> Record | None:
    """One case; None if the budget, not the case's own timeout, cut it off: it is left for another time."""
    started, clock = _now(), time.perf_counter()
    if case.problem is not None:
        result: dict[str, Any] | None = {"status": "skipped", "stack": stack, "failure": _at_start(case.problem)}
    elif case.card is not None:
        result = _estimated(case, case.card)
    else:
        result = _measured(case, sweep, stack, store, remaining)
    if result is None:
        return None
    record = Record(
        key=case.key,
        workload=case.workload,
        started=started,
        seconds=time.perf_counter() - clock,
        tolerance=sweep.tolerance_percent / 100 if sweep.tolerance_percent else None,
        **result,
    )
    return replace(record, explanation=reason_of(store, record).explanation) if sweep.events else record


def _estimated(case: Case, card: Gpu) -> dict[str, Any]:
    """The record's fields for a case of another card."""
    stack = assumed_stack(card)
    from profiler.estimation.estimator import estimate

    try:
        found = estimate(case.workload, case.spec, stack, context_bytes=card.context_bytes)
    except LatentmeterError as error:
        status = "skipped" if isinstance(error, UserError) else "invalid"  # what this model or card does not take
        return {"status": status, "stack": stack, "failure": _at_start(str(error)), "notes": {"estimate": str(error)}}
    return {"status": "ok", "stack": stack, "estimate": found}


def _measured(
    case: Case, sweep: Sweep, stack: Stack, store: RunStore, remaining: float | None
) -> dict[str, Any] | None:
    """The record's fields for a case of this machine: the estimate for its stack, and the measurement.

    The events of the estimate are saved where those of the measurement were.
    """
    found, trace, notes = _estimate(case, stack)
    events = store.event_path(case.workload, "measured") if sweep.events else None
    timeout = sweep.timeout_seconds if remaining is None else min(sweep.timeout_seconds, remaining)
    outcome = measure_in_process(
        case.workload,
        case.spec,
        stack.device,
        warm_calls=sweep.warm_calls,
        timeout=timeout,
        log=store.log_path(case.workload),
        events=events,
    )
    if outcome.status == "timeout" and timeout < sweep.timeout_seconds:
        return None
    if trace and outcome.measurement and events and events.exists():
        write_stream(store.event_path(case.workload, "estimated"), trace)
    failure = outcome.failure
    if failure and outcome.status == "skipped" and notes:
        failure = replace(failure, message=notes["estimate"])  # torch says that no kernel can, the estimate says why
    return vars(outcome) | {"stack": outcome.stack or stack, "failure": failure, "estimate": found, "notes": notes}


def _at_start(message: str) -> Failure:
    return Failure(phase="start", message=message)


def _estimate(case: Case, stack: Stack) -> tuple[Estimate | None, Events | None, dict[str, str]]:
    from profiler.estimation.estimator import estimate_with_events

    try:
        return *estimate_with_events(case.workload, case.spec, stack), {}
    except LatentmeterError as error:
        return None, None, {"estimate": str(error)}


def _least_seconds(case: Case) -> float:
    """What a case needs at the very least: a process that imports torch and builds a model; an estimate needs little."""
    return 5.0 if case.card is not None else 30.0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
