"""`latentmeter doctor`: what this machine has, before anything is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import profiler
from profiler.commands.options import emit, force_option, json_option
from profiler.commands.tables import console
from profiler.data.stack import Stack
from profiler.data.units import format_bytes
from profiler.files.write import check_output

if TYPE_CHECKING:
    from profiler.measurement.doctor import Finding


@click.command()
@click.option("--context", is_flag=True, help="Also measure what CUDA takes outside the allocator, step by step.")
@click.option(
    "--dump-card", type=click.Path(path_type=Path), help="Write this machine's card as a file of configs/gpus."
)
@force_option
@json_option
def doctor(context: bool, dump_card: Path | None, force: bool, as_json: bool) -> None:
    """What this machine has, and what would hinder a measurement."""
    from profiler.kernels.cudnn_process import try_planner
    from profiler.machine.probe import ask
    from profiler.measurement.doctor import write_card

    if dump_card is not None:
        check_output(dump_card, "file", force=force)
    stack, findings, gpus = profiler.doctor()
    ladder = ask("context") if context else None
    if dump_card is not None:
        write_card(dump_card, ladder)
    data = {"stack": asdict(stack), "findings": [asdict(f) for f in findings], "gpus": gpus, "context": ladder}
    data["planner"] = asdict(try_planner())
    emit(data, as_json, lambda _: show_doctor(stack, findings, ladder))


def show_doctor(stack: Stack, findings: "Sequence[Finding]", ladder: Mapping[str, Any] | None) -> None:
    """One line a finding, then the stack, then what CUDA takes after each step of its start."""
    out = console()
    for finding in findings:
        out.print(f"{finding.level:8} {finding.subject}: {finding.text}")
    out.print(f"stack    {stack.fingerprint}: {stack.title}")
    for step, size in (ladder or {}).get("bytes", {}).items():
        out.print(f"outside the allocator after {step}: {format_bytes(size)}")
