"""Runs a sweep: case by case, each in its own process, each saved as it ends, and resumed where it stood."""

import errno
import logging
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from profiler._version import __version__
from profiler.data.records import Failure, Record
from profiler.data.stack import Stack
from profiler.data.units import check_number
from profiler.errors import LatentmeterError, UserError
from profiler.estimation.calls import estimate_case
from profiler.evidence.explain import reason_of
from profiler.files.store import RunHeader, RunStore, file_stem
from profiler.files.streams import packed
from profiler.files.write import write_atomically
from profiler.machine.cards import Gpu, assumed_stack
from profiler.machine.environment import context_with, settings_here
from profiler.machine.probe import probe_stack
from profiler.measurement.process import measure_in_process
from profiler.sweeps.plan import Case, Plan, Sweep

logger = logging.getLogger(__name__)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a disk, a quota or a limit says that takes no more
FINAL = ("ok", "oom", "invalid", "skipped")  # a timeout or crash may end otherwise another time: --retry runs it again


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to treat a folder that holds a run, and how long to go on. `budget_minutes` stops cleanly before it is over.

    `command` is what the user typed, program and arguments: whoever is interrupted is told how to go on.
    """

    force: bool = False
    repair: bool = False
    retry: bool = False
    budget_minutes: float | None = None
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number("budget_minutes", self.budget_minutes or 0)


@dataclass(frozen=True)
class Progress:
    """Told to the caller before a case (record None) and after it."""

    number: int
    total: int
    case: Case
    record: Record | None = None


def run_sweep(
    plan: Plan, directory: Path, options: RunOptions | None = None, tell: Callable[[Progress], None] = lambda _: None
) -> list[Record]:
    """Run every case of `plan` that `directory` has no record of; returns all its records.

    Raises UserError, and LatentmeterError where the disk takes no more. An interrupt has a note that says how to go on.
    """
    options = options or RunOptions()
    store = RunStore(directory)
    deadline = None if options.budget_minutes is None else time.monotonic() + options.budget_minutes * 60
    done: set[str] = set()
    try:
        with store.writing():
            stack = probe_stack(plan.sweep.device)
            _open(store, plan, stack, options)
            done |= {record.key for record in store.records() if not options.retry or record.status in FINAL}
            _run_cases(plan, stack, store, done, deadline, tell)
            return store.records()
    except KeyboardInterrupt as stop:
        stop.add_note(_way_on(plan, store, done, options))
        raise
    except OSError as error:
        what = f"{error.filename or store.directory}: {error.strerror}"
        room = ", make room first" if error.errno in FULL else ""
        raise LatentmeterError(f"{what}{room}; {_way_on(plan, store, done, options)}") from error


def _run_cases(
    plan: Plan, stack: Stack, store: RunStore, done: set[str], deadline: float | None, tell: Callable[[Progress], None]
) -> None:
    """Run the cases that are not in `done`, and add them to it, until the deadline is near."""
    cases = plan.cases
    logger.info("%d of %d cases have a record in %s", len(done), len(cases), store.directory)
    for number, case in enumerate(cases, start=1):
        if case.key in done:
            continue
        remaining = None if deadline is None else deadline - time.monotonic()
        if remaining is not None and remaining < _least_seconds(case):
            logger.info("%s needs %.0f s or more, %.0f s are left", case.key, _least_seconds(case), remaining)
            return
        tell(Progress(number, len(cases), case))
        if (record := _run_case(case, plan.sweep, stack, store, remaining)) is None:
            return
        store.append(record)
        done.add(case.key)
        tell(Progress(number, len(cases), case, record))


def _way_on(plan: Plan, store: RunStore, done: set[str], options: RunOptions) -> str:
    """What is saved, and the command that goes on. A second --force would replace what this one began."""
    begun = store.replacement is None and bool(done)
    words = [word for word in options.command if not (begun and word == "--force")]
    command = f": {shlex.join(words)}" if words else ""
    if not store.directory.exists():
        return f"the folder {store.directory} is gone, and its records with it; begin again{command}"
    saved = len(done & {case.key for case in plan.cases})
    return f"{saved} of {len(plan.cases)} cases are saved in {store.directory}; to go on{command}"


def _open(store: RunStore, plan: Plan, stack: Stack, options: RunOptions) -> None:
    """Begin a run, or go on with the one that is there if it is the same sweep on the same stack."""
    wanted = RunHeader(
        title=plan.sweep.title,
        sweep=plan.identity,
        command=shlex.join(options.command),
        created=_now(),
        fingerprint=stack.fingerprint,
        version=__version__,
    )
    if options.force and not store.empty:
        store.replace_by(wanted)
        return
    there = None if store.empty else store.header_or_none()
    if options.repair:
        store.repair(_keeps(plan, stack) if there is None else lambda _: True)
    if there is None:
        if store.records_path.exists() and not options.repair:
            raise UserError(
                f"{store.directory}: run.json is damaged or gone, and whose the records are is not known; --repair "
                "keeps those of this sweep's cases and sets the others aside, --force replaces them, --out goes elsewhere"
            )
        store.begin(wanted)
        return
    if there.sweep != wanted.sweep:
        raise UserError(
            f"{store.directory}: holds a run of another sweep, or of models edited since ('{there.title}'); "
            "--force replaces it, --out goes elsewhere"
        )
    if there.fingerprint != stack.fingerprint:
        raise UserError(
            f"{store.directory}: was begun on another stack ({there.fingerprint}, here {stack.fingerprint}: "
            f"{stack.title}); --force replaces it, --out goes elsewhere"
        )


def _keeps(plan: Plan, stack: Stack) -> Callable[[Record], bool]:
    """Whether a record without a header can be the plan's: the same case, and if it was measured, on this stack."""
    cases = {case.key: case for case in plan.cases}

    def keep(record: Record) -> bool:
        case = cases.get(record.key)
        if case is None or case.workload != record.workload:
            return False
        return case.card is not None or bool(record.stack and record.stack.fingerprint == stack.fingerprint)

    return keep


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
    stack = assumed_stack(card, settings=settings_here())
    context = context_with(card.context_bytes, stack.settings)
    try:
        found, _ = estimate_case(case.workload, case.spec, stack, context_bytes=context)
    except LatentmeterError as error:
        status = "skipped" if isinstance(error, UserError) else "invalid"  # what this model or card does not take
        return {"status": status, "stack": stack, "failure": _at_start(str(error)), "notes": {"estimate": str(error)}}
    return {"status": "ok", "stack": stack, "estimate": found}


def _measured(case: Case, sweep: Sweep, stack: Stack, store: RunStore, left: float | None) -> dict[str, Any] | None:
    """The record's fields for a case of this machine: the estimate for its stack, and the measurement.

    The events of the estimate are saved where those of the measurement were.
    """
    found, trace, notes = None, None, {}
    try:
        found, trace = estimate_case(case.workload, case.spec, stack)
    except LatentmeterError as error:
        notes["estimate"] = str(error)
    timeout = sweep.timeout_seconds if left is None else min(sweep.timeout_seconds, left)
    outcome = measure_in_process(
        case.workload,
        case.spec,
        stack.device,
        warm_calls=sweep.warm_calls,
        timeout=timeout,
        log=store.logs / f"{file_stem(case.workload)}.log",
        events=sweep.events,
    )
    if outcome.status == "timeout" and timeout < sweep.timeout_seconds:
        return None
    if outcome.events:
        write_atomically(store.event_path(case.workload, "measured"), outcome.events)
        if trace:
            write_atomically(store.event_path(case.workload, "estimated"), packed(trace))
    if outcome.failure and outcome.status == "skipped" and notes:
        # torch says that no kernel can, the estimate says why
        outcome = replace(outcome, failure=replace(outcome.failure, message=notes["estimate"]))
    return outcome.of_record(stack) | {"estimate": found, "notes": notes}


def _at_start(message: str) -> Failure:
    return Failure(phase="start", message=message)


def _least_seconds(case: Case) -> float:
    """What a case needs at the very least: a process that imports torch and builds a model; an estimate needs little."""
    return 5.0 if case.card is not None else 30.0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
