"""`latentmeter coverage`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from profiler.commands.tables import console, new_table

if TYPE_CHECKING:
    from profiler.evidence.coverage import Trial

from profiler.commands.options import EXIT_FAILED, emit, json_option
from profiler.errors import UserError


@click.command()
@click.option("--class", "classes", multiple=True, help="This class only; may be given again.")
@click.option("--gpu", default="h200", show_default=True, help="Card to estimate for.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the table as Markdown.")
@json_option
def coverage(classes: tuple[str, ...], gpu: str, out: Path | None, as_json: bool) -> None:
    """Try every autoencoder and denoiser class of the installed diffusers."""
    from dataclasses import asdict

    from profiler.evidence.coverage import class_names, cover, summary, to_markdown

    known = class_names()
    if unknown := set(classes) - known.keys():
        raise UserError(f"diffusers has no autoencoder or denoiser class {', '.join(sorted(unknown))}")
    names = {name: known[name] for name in classes} or known
    trials = []
    for done, found in enumerate(cover(names, gpu=gpu), 1):
        trials += found
        show_trial(done, len(names), found)
    trials.sort(key=lambda trial: (trial.kind, trial.class_name))
    if out is not None:
        out.write_text(to_markdown(trials, gpu), encoding="utf-8")
    data = {"summary": summary(trials), "trials": [asdict(trial) for trial in trials]}
    emit(data, as_json, lambda _: show_coverage(trials))
    sys.exit(EXIT_FAILED if any(trial.status == "failed" for trial in trials) else 0)


def show_trial(done: int, total: int, trials: "Sequence[Trial]") -> None:
    """Progress, on standard error."""
    for trial in trials:
        click.echo(f"[{done}/{total}] {trial.class_name} {trial.stage or ''} {trial.status}", err=True)


def show_coverage(trials: "Sequence[Trial]") -> None:
    """One row a stage, then the summary."""
    from profiler.evidence.coverage import summary

    table = new_table("class", "stage", "result", "case", "peak allocated", "remark")
    for trial in trials:
        table.add_row(*trial.cells)
    console().print(table)
    console().print(summary(trials))
