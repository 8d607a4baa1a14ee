"""`latentmeter run`: the cases of a sweep, one by one, into a folder with its report."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from profiler.commands.options import EXIT_FAILED, pickle_option
from profiler.commands.tables import console, print_table
from profiler.comparison.case import Comparison, compare, compare_all, within_tolerance
from profiler.data.records import Record
from profiler.data.units import check_number, format_bytes, format_percent

if TYPE_CHECKING:
    from profiler.sweeps.plan import Plan
    from profiler.sweeps.run import Progress


@click.command()
@click.argument("config")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run. Default: results/<name of the sweep>.")
@click.option("--force", is_flag=True, help="Replace the run in the folder when the first new record is saved.")
@click.option("--repair", is_flag=True, help="Set damaged lines of the run aside in a file beside, and go on.")
@click.option("--retry", is_flag=True, help="Run cases again that ended in a timeout or crash.")
@click.option(
    "--budget-minutes",
    type=click.FloatRange(0),
    callback=lambda _, __, minutes: check_minutes(minutes),
    help="Stop cleanly within this time; run again to go on.",
)
@click.option(
    "--events/--no-events", default=None, help="Keep each case's allocator events. Default: as the sweep says."
)
@pickle_option
def run(
    config: str, out: Path | None, force: bool, repair: bool, retry: bool, budget_minutes: float | None,
    events: bool | None, allow_pickle: bool,
) -> None:  # fmt: skip
    """Run the sweep CONFIG (a file, or the name of a shipped one) and write its report.

    Each case is saved as it ends. The same command again goes on where the run stood. docs/sweeps.md describes the format of
    a sweep and what the exit codes mean.
    """
    from profiler.sweeps.plan import find_sweep, plan_sweep
    from profiler.sweeps.publish import publish
    from profiler.sweeps.run import RunOptions, run_sweep

    sweep = find_sweep(config)
    if events is not None:
        sweep = replace(sweep, events=events)
    directory = out or Path("results") / sweep.name
    options = RunOptions(
        force=force, repair=repair, retry=retry, budget_minutes=budget_minutes, command=("latentmeter", *sys.argv[1:])
    )
    plan = plan_sweep(sweep, allow_pickle=allow_pickle)
    records = run_sweep(plan, directory, options, show_progress)
    paths = publish(directory, models=plan.models)
    comparisons = show_run(plan, records, paths)
    sys.exit(0 if all(map(within_tolerance, comparisons)) else EXIT_FAILED)


def check_minutes(minutes: float | None) -> float | None:
    """`minutes`, if click took a number for them. Raises UserError for nan and inf, which it takes for such."""
    check_number("--budget-minutes", minutes or 0)
    return minutes


def show_progress(progress: "Progress") -> None:
    """One line when a case begins and one when it ends."""
    if (record := progress.record) is None:
        what = "estimate" if progress.case.card else "measure"
        console().print(f"[{progress.number}/{progress.total}] {what} {progress.case.key}")
        return
    row = compare(record)
    sizes, parts = row.allocated, [f"        {record.status}", f"{record.seconds:.1f} s"]
    if sizes.estimated is not None:
        parts.append(f"estimated {format_bytes(sizes.estimated)}")
    if sizes.measured is not None:
        parts.append(f"measured {format_bytes(sizes.measured)} ({format_percent(sizes.error)}, {row.verdict})")
    console().print(", ".join(parts) + (f": {record.failure.message}" if record.failure else ""))


def show_run(plan: "Plan", records: Sequence[Record], paths: Sequence[Path]) -> list[Comparison]:
    """The closing table of a run, where its report lies, and what to type next."""
    out = console()
    comparisons = compare_all(records)
    kinds = {record.kind for record in records}
    rows = [
        [
            *(row.record.key, row.record.kind, row.record.status, format_bytes(row.allocated.estimated)),
            format_bytes(row.allocated.measured) if row.record.measurement else "-",
            format_percent(row.allocated.error) if row.record.measurement else "-",
            row.verdict,
        ]
        for row in comparisons
    ]
    print_table(["case", "kind", "status", "estimated", "measured", "error", "verdict"], rows)
    if "dry" in kinds:
        out.print("Rows of kind 'dry': allocator and dispatcher real, kernels not executed; no GPU was measured.")
    if "cpu" in kinds:
        out.print("Measured rows are CPU numbers: no GPU was used. Rows of kind 'estimated' were not measured.")
    if skipped := [record for record in records if record.status == "skipped"]:
        out.print(f"Skipped, neither measured nor estimated: {len(skipped)} of {len(plan.cases)} cases:")
        for reason in dict.fromkeys(record.failure.message for record in skipped if record.failure):
            out.print(f"  {reason}")
    if len(records) < len(plan.cases):
        out.print(f"{len(records)} of {len(plan.cases)} cases done: the same command goes on with the rest.")
        if not records:
            out.print("The budget is too small for the first case: give --budget-minutes more.")
    if outside := [row for row in comparisons if not within_tolerance(row)]:
        out.print(
            f"{len(outside)} of {len(comparisons)} cases failed, could not be compared or lie outside their tolerance."
        )
    for path in paths:
        out.print(str(path))
    out.print(f"Read {paths[0]}; `latentmeter report {quote(str(paths[0].parent))}` writes it again.")
    return comparisons
