"""`latentmeter report`."""

import sys
from pathlib import Path

import click

from profiler.commands.options import (
    EXIT_FAILED,
)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--tolerance", type=click.FloatRange(min=0), help="Percent; a case outside it makes the exit code 1.")
def report(directory: Path, tolerance: float | None) -> None:
    """Write the report of the run in DIRECTORY again: HTML, Markdown, JSON, CSV."""
    from profiler import api
    from profiler.comparison.case import within_tolerance
    from profiler.sweeps.publish import publish

    share = None if tolerance is None else tolerance / 100
    for path in publish(directory, share):
        click.echo(path)
    if share is not None and not all(map(within_tolerance, api.comparisons(directory, share))):
        sys.exit(EXIT_FAILED)
