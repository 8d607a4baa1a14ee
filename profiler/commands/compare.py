"""`latentmeter compare`: two runs side by side."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

import profiler
from profiler.commands.options import EXIT_FAILED, emit, json_option, percent
from profiler.commands.tables import console, print_table
from profiler.comparison.runs import CaseDifference, RunDifference, sentence
from profiler.data.units import format_bytes, format_percent


@click.command()
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@click.option("--fail-over", type=percent, help="Exit code 1 when a peak rose by more, or a case failed anew.")
@json_option
def compare(run_a: Path, run_b: Path, fail_over: float | None, as_json: bool) -> None:
    """Two runs side by side: two cards, two torch versions, two commits. Cases are joined by workload.

    A change is that of the allocated peak; --fail-over looks at allocated, reserved and device bytes.
    """
    found = profiler.compare(run_a, run_b)
    failures = [] if fail_over is None else found.failures(fail_over)
    data = asdict(found) | {"failures": [case.key for case in failures]}
    emit(data, as_json, lambda _: show_difference(found, failures))
    sys.exit(EXIT_FAILED if failures else 0)


def show_difference(found: RunDifference, failures: Sequence[CaseDifference]) -> None:
    """The stack's changes, a row for each case that changed, and how many did not."""
    out = console()
    for name, (before, after) in found.stack.items():
        out.print(f"{name}: {before} -> {after}")
    rows = []
    for case in (case for case in found.cases if case.change != "equal" or case in failures):
        sizes = (case.allocated.before, case.allocated.after)
        texts = [format_bytes(size) if size is not None else "-" for size in sizes]
        shares = [format_percent(delta.share) if delta.bytes is not None else "-" for delta in case.deltas]
        rows.append([case.key, case.kind, case.card, case.change, *texts, *shares])
    if rows:
        print_table(["case", "kind", "card", "change", "before", "after", "allocated", "reserved", "device"], rows)
    out.print(sentence(found))
    for case in failures:
        out.print(f"FAILED {case.key}: {case.reason or 'rose by more than the limit'}")
