"""`latentmeter measure`: one stage with real tensors."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

import profiler
from profiler.commands.options import (
    EXIT_FAILED,
    alloc_conf_option,
    emit,
    gather,
    json_option,
    pickle_option,
    workload_options,
)
from profiler.commands.tables import console, show_breakdown, show_levels, show_notes, show_options
from profiler.data.records import Record
from profiler.data.units import format_bytes


@click.command()
@click.argument("model")
@workload_options
@click.option(
    "--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True, help="Where it runs."
)
@click.option("--warm-calls", type=click.IntRange(0), default=3, show_default=True, help="Calls after the cold one.")
@click.option("--timeout", type=float, default=600.0, show_default=True, help="Seconds.")
@pickle_option
@alloc_conf_option
@json_option
def measure(model: str, as_json: bool, **values: Any) -> None:
    """Run one stage of MODEL with real tensors, in a process of its own."""
    tell: Callable[[str], None] = (lambda key: None) if as_json else (lambda key: console().print(f"measure {key}"))
    record = profiler.measure(model, tell=tell, **gather(values))
    emit(asdict(record), as_json, lambda _: show_measurement(record))
    sys.exit(0 if record.status == "ok" else EXIT_FAILED)


def show_measurement(record: Record) -> None:
    """Levels by phase, the breakdown, or why there is none."""
    out = console()
    out.print(f"{record.key}: {record.status} in {record.seconds:.1f} s")
    if record.stack is not None:
        on_cpu = " (CPU numbers, no GPU)" if record.stack.device == "cpu" else ""
        out.print(f"{'dry run of' if record.stack.dry else 'measured on'} {record.stack.title}{on_cpu}")
    if failure := record.failure:
        out.print(f"{record.status} in phase '{failure.phase}': {failure.message}", style="bold")
        if failure.requested_bytes is not None:
            out.print(f"the allocation that failed: {format_bytes(failure.requested_bytes)}")
        if failure.readings:
            show_levels({f"phase '{reading.phase}', peak": reading.peak for reading in failure.readings})
        if failure.log:
            out.print(failure.log)
    if (found := record.measurement) is None:
        return
    show_options(found.options)
    warm = {f"warm call {number}, peak": reading.peak for number, reading in enumerate(found.warm, start=1)}
    show_levels({"baseline": found.baseline, "cold call, peak": found.peak} | warm)
    out.print(found.place)
    show_breakdown(found)
    if found.borrowed:
        worst = [f"{format_bytes(b.bytes)} in {b.module or 'the stage'} ({b.op})" for b in found.borrowed[:3]]
        out.print(f"most borrowed while an op ran: {'; '.join(worst)}")
    show_notes(found.notes)
