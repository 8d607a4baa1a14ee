"""`latentmeter accuracy`: how far estimates are from what is known."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import profiler
from profiler.commands.options import EXIT_FAILED, emit, force_option, json_option, percent
from profiler.commands.tables import console
from profiler.files.write import check_output

if TYPE_CHECKING:
    import pandas as pd


@click.command()
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for accuracy.md, .csv and .json.")
@click.option("--gpu", help="Only cases of this card.")
@click.option("--closed-form", is_flag=True, help="Without cuDNN's plans, shipped or asked: as for a size of your own.")
@force_option
@click.option("--fail-over", type=percent, help="A measured or dry case beyond it makes the exit code 1.")
@json_option
def accuracy(
    sources: tuple[Path, ...], out: Path | None, gpu: str | None, closed_form: bool, fail_over: float | None,
    force: bool, as_json: bool,
) -> None:  # fmt: skip
    """How good the estimates are: made anew, against known figures, beside others' formulas.

    SOURCES are run folders, folders of them, or files of published figures. Default: results/reference.
    """
    from profiler.evidence.accuracy import beyond, conditions
    from profiler.sweeps.publish import accuracy_data, publish_accuracy

    if out is not None:
        check_output(out, "folder")
        for kind in ("md", "csv", "json"):
            check_output(out / f"accuracy.{kind}", "file", force=force)
    frame = profiler.accuracy(sources, gpu=gpu, closed_form=closed_form, follow=lambda it: follow(it, "estimating"))
    about = conditions(frame, " ".join(["latentmeter", *sys.argv[1:]]), closed_form=closed_form)
    paths = publish_accuracy(frame, about, out) if out else []
    emit(accuracy_data(frame, about), as_json, lambda _: show_accuracy(frame, about, paths))
    if fail_over is not None and beyond(frame, fail_over):
        sys.exit(EXIT_FAILED)


def follow(cases: Sequence[Any], what: str) -> Iterable[Any]:
    """`cases`, one by one, with a line on standard error every twenty cases."""
    for number, case in enumerate(cases):
        if number % 20 == 0:
            click.echo(f"{what}: {number} of {len(cases)}", err=True)
        yield case


def show_accuracy(frame: "pd.DataFrame", about: Mapping[str, str], paths: Sequence[Path]) -> None:
    """The conditions and the summary, and where the whole table lies."""
    from profiler.report.accuracy import render_summary

    out = console()
    for name, text in about.items():
        out.print(f"{name}: {text}")
    out.print(f"\n{render_summary(frame)}\n")
    for path in paths:
        out.print(str(path))
    if not paths:
        out.print("`--out FOLDER` writes the whole table: Markdown, CSV, JSON.")
