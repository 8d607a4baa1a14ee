"""`latentmeter explain`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from profiler.commands.tables import console, new_table

if TYPE_CHECKING:
    from profiler.evidence.explain import Reason

from profiler.commands.options import emit, json_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("case", required=False)
@click.option("--again", is_flag=True, help="Make the estimate anew, by the rules as they are now.")
@json_option
def explain(run: Path, case: str | None, again: bool, as_json: bool) -> None:
    """Which bytes of the difference at the peak belong to which op, from the events that the run in folder RUN kept.

    CASE is a key or a part of keys; without it every case gets a line.
    """
    from dataclasses import asdict

    from profiler.evidence.explain import reasons

    found = reasons(run, case, again=again)
    data = [
        {"key": r.record.key, "explanation": r.explanation and asdict(r.explanation), "missing": r.missing or None}
        for r in found
    ]
    emit({"cases": data}, as_json, lambda _: show_reasons(found))


def show_reasons(found: "Sequence[Reason]") -> None:
    """A line a case; for one case alone, every cause."""
    out = console()
    for reason in found:
        text = reason.explanation.text if reason.explanation else f"not explained: {reason.missing}"
        out.print(f"{reason.record.key}: {text}")
    if len(found) > 1:
        known = [reason.explanation for reason in found if reason.explanation]
        left = sum(abs(explanation.unexplained) for explanation in known)
        out.print(f"{len(known)} of {len(found)} cases have events; {left:,} B of their differences unexplained")
        return
    for explanation in [reason.explanation for reason in found if reason.explanation]:
        table = new_table("measured minus estimated", "blocks", "term", "why", "where")
        for cause in explanation.causes:
            where = f"{cause.module} {cause.op}".strip()
            table.add_row(f"{cause.bytes:+,} B", str(cause.blocks), cause.term, cause.why, where)
        table.add_row(f"{explanation.unexplained:+,} B" if explanation.unexplained else "0 B", "", "", "unexplained")
        table.add_row(f"{explanation.difference:+,} B", "", "", "difference of the allocated peaks")
        out.print(table)
        out.print(
            f"{explanation.paired:,} blocks are in both streams, {explanation.only_measured:,} only in the measured, "
            f"{explanation.only_estimated:,} only in the estimated one."
        )
