"""`latentmeter coverage`: which classes of diffusers can be estimated."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

import profiler
from profiler.commands.options import EXIT_FAILED, emit, force_option, json_option
from profiler.commands.tables import console, print_table
from profiler.evidence.coverage import Trial, summary
from profiler.files.write import check_output, write_atomically


@click.command()
@click.option("--class", "classes", multiple=True, help="This class only; may be given again.")
@click.option("--gpu", default="h200", show_default=True, help="Card to estimate for.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the table as Markdown.")
@force_option
@json_option
def coverage(classes: tuple[str, ...], gpu: str, out: Path | None, force: bool, as_json: bool) -> None:
    """Try every autoencoder and denoiser class of the installed diffusers."""
    from profiler.report.markdown import render_coverage

    if out is not None:
        check_output(out, "file", force=force)
    trials = profiler.coverage(classes, gpu=gpu, tell=show_progress)
    if out is not None:
        write_atomically(out, render_coverage(trials, summary(trials), gpu))
    data = {"summary": summary(trials), "trials": [asdict(trial) for trial in trials]}
    emit(data, as_json, lambda _: show_coverage(trials))
    sys.exit(EXIT_FAILED if any(trial.status == "failed" for trial in trials) else 0)


def show_progress(done: int, total: int, trials: Sequence[Trial]) -> None:
    """A line a trial, on standard error."""
    for trial in trials:
        click.echo(f"[{done}/{total}] {trial.class_name} {trial.stage or ''} {trial.status}", err=True)


def show_coverage(trials: Sequence[Trial]) -> None:
    """One row a stage, then the summary."""
    print_table(["class", "stage", "result", "case", "peak allocated", "remark"], [trial.cells for trial in trials])
    console().print(summary(trials))
