"""`latentmeter recordings`: traces kept on disk, from which other sizes are answered without torch."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from profiler import api
from profiler.commands.options import EXIT_FAILED, emit, gather, json_option, stack_options, workload_options
from profiler.commands.tables import console
from profiler.commands.verbose import verbose_option
from profiler.data.units import format_bytes

if TYPE_CHECKING:
    from profiler.estimation.recorder import Recorded


@click.group()
def recordings() -> None:
    """Recordings: traces from which other heights and widths are answered at once."""


@recordings.command()
@click.argument("model")
@workload_options
@stack_options
@click.option("--force", is_flag=True, help="Record again where a recording is there.")
@json_option
@verbose_option
def make(model: str, force: bool, as_json: bool, **values: Any) -> None:
    """Record one stage of MODEL, for heights and widths around the asked and the published ones.

    Exit code 1 where there can be no recording, with the reason.
    """
    found = api.make_recording(model, force=force, tell=lambda line: click.echo(line, err=True), **gather(values))
    emit(asdict(found), as_json, lambda _: show_recording(found))
    sys.exit(EXIT_FAILED if found.reason else 0)


def show_recording(found: "Recorded") -> None:
    """For which sizes, in which file, or why not."""
    out = console()
    if found.grid is None:
        out.print(f"{found.workload.key}: no recording: {found.reason}")
        return
    how = (
        f"up to date since {found.made}; --force records again" if found.made else f"recorded in {found.seconds:.1f} s"
    )
    out.print(f"{found.workload.key} for {found.stack.title}: {how}")
    sides = zip(("height", "width"), found.grid.first, found.grid.last, found.grid.step, strict=True)
    for name, first, last, step in sides:
        out.print(f"{name}: {first} to {last} in steps of {step}")
    out.print(f"{format_bytes(found.bytes)} in {found.path}")
    out.print(
        f"next: latentmeter estimate {found.workload.model} --stage {found.workload.stage} --height ... --width ..."
    )
