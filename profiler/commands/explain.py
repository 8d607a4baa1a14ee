"""`latentmeter explain`: the difference between estimate and measurement, event by event."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

import profiler
from profiler.commands.options import EXIT_FAILED, emit, json_option
from profiler.commands.tables import console, print_table
from profiler.data.explanation import Explanation

if TYPE_CHECKING:
    from profiler.evidence.explain import Reason


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("case", required=False)
@click.option("--again", is_flag=True, help="Make the estimate anew, by the rules as they are now.")
@json_option
def explain(run: Path, case: str | None, again: bool, as_json: bool) -> None:
    """Which bytes of the difference at the peak, allocated and reserved, belong to which op: the events in folder RUN tell.

    CASE is a key or a part of keys; without it every case gets a line.
    """
    found = profiler.explain(run, case, again=again)
    data = [
        {"key": r.record.key, "explanation": r.explanation and asdict(r.explanation), "missing": r.missing or None}
        for r in found
    ]
    emit({"cases": data}, as_json, lambda _: show_reasons(found))
    sys.exit(EXIT_FAILED if any(reason.damaged for reason in found) else 0)


def show_reasons(found: "Sequence[Reason]") -> None:
    """A line a case; for one case alone, every cause."""
    out = console()
    sides = [reason.record.measurement for reason in found if reason.record.measurement]
    for origin, dry in dict.fromkeys((side.origin, side.device_kind == "dry") for side in sides):
        out.print(f"{origin}{': it stands for the measured side, no GPU was measured' if dry else ''}")
    for reason in found:
        text = reason.explanation.text if reason.explanation else f"not explained: {reason.missing}"
        out.print(f"{reason.record.key}: {text}")
    known = [reason.explanation for reason in found if reason.explanation]
    if len(found) > 1:
        left = sum(abs(level.unexplained) for explanation in known for level in explanation.levels.values())
        out.print(f"{len(known)} of {len(found)} cases have events; {left:,} B of their differences unexplained")
    elif known:
        for name, level in known[0].levels.items():
            _show_causes(level, name)
        out.print(
            f"{known[0].paired:,} blocks are in both streams, {known[0].only_measured:,} only in the measured, "
            f"{known[0].only_estimated:,} only in the estimated one."
        )


def _show_causes(found: Explanation, what: str) -> None:
    rows = [
        [f"{cause.bytes:+,} B", str(cause.blocks), cause.term, cause.why, f"{cause.module} {cause.op}".strip()]
        for cause in found.causes
    ]
    rows.append([f"{found.unexplained:+,} B" if found.unexplained else "0 B", "", "", "unexplained"])
    rows.append([f"{found.difference:+,} B", "", "", f"difference of the {what} peaks"])
    print_table(["measured minus estimated", "blocks", "term", "why", "where"], rows)
