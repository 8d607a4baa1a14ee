"""`latentmeter report`: the report of a run, written again from its records."""

import sys
from pathlib import Path

import click

import profiler
from profiler.commands.options import EXIT_FAILED, percent
from profiler.comparison.case import within_tolerance
from profiler.data.text import visible


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--tolerance", type=percent, help="A case outside it makes the exit code 1.")
@click.option("--repair", is_flag=True, help="First set damaged lines of the records aside in a file beside.")
def report(directory: Path, tolerance: float | None, repair: bool) -> None:
    """Write the report of the run in DIRECTORY again: HTML, Markdown, JSON, CSV."""
    from profiler.files.store import open_run
    from profiler.sweeps.publish import publish

    if repair:
        store = open_run(directory)
        with store.writing():
            store.repair()
    for path in publish(directory, tolerance):
        click.echo(visible(str(path)))
    if tolerance is not None and not all(map(within_tolerance, profiler.comparisons(directory, tolerance))):
        sys.exit(EXIT_FAILED)
