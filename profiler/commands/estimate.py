"""`latentmeter estimate`: what one stage needs, or a whole generation, without a GPU."""

from dataclasses import asdict
from typing import Any

import click

from profiler import api
from profiler.commands.options import card_options, emit, gather, generation_options, json_option, stack_options
from profiler.commands.tables import (
    console,
    print_table,
    show_breakdown,
    show_first_notes,
    show_levels,
    show_notes,
    show_options,
)
from profiler.data.memory import PhasePeak
from profiler.data.records import CallEstimate, Estimate
from profiler.data.units import format_bytes
from profiler.data.workload import History, Placement
from profiler.errors import UserError

PLACEMENT = ("offload", "stream", "record_stream", "low_cpu_mem")
OF_GENERATION = (*PLACEMENT, "steps", "guidance", "images_per_prompt")
WHEN = ("load", "first call", "second call")


@click.command()
@click.argument("model")
@generation_options
@stack_options
@card_options
@click.option("--no-cache", is_flag=True, help="Trace anew; neither read nor keep anything on disk.")
@json_option
def estimate(model: str, no_cache: bool, as_json: bool, **values: Any) -> None:
    """What MODEL needs for one stage, without a GPU; with --stage generate for all from a prompt to a picture or clip.

    MODEL is a catalog id, a YAML file, a diffusers class, a component's config.json, a diffusers folder or a hub id. A first
    answer is traced and kept. After `latentmeter recordings make MODEL` other heights and widths are answered at once.
    """
    own = {name: values.pop(name) for name in OF_GENERATION}
    asked = gather(values)
    if asked["stage"] == "generate":
        answer = _generate(model, asked, {name: value for name, value in own.items() if value})
        emit(asdict(answer), as_json, lambda _: show_generation(model, answer))
        return
    for name, value in own.items():
        if value:
            raise UserError(f"{name}: goes with --stage generate")
    found = api.estimate(model, cache=not no_cache, **asked)
    emit(asdict(found), as_json, lambda _: show_estimate(found))


def _generate(model: str, asked: dict[str, Any], own: dict[str, Any]) -> CallEstimate:
    """The answer of `profiler.generate` for what the command line asks."""
    if asked.pop("history") != History():
        raise UserError("after, empty_cache and device_map: go with a single stage; a generation has two calls")
    del asked["stage"]
    placement = Placement(**{name: own.pop(name) for name in PLACEMENT if name in own})
    prompts = asked.pop("batch")
    return api.generate(model, placement=placement, prompts=prompts, **asked, **own)


def show_generation(name: str, found: CallEstimate) -> None:
    """The highest moment in one line; a row a phase in order of time; then what the peak is made of."""
    out = console()
    top = max(found.phases, key=lambda phase: phase.peak.allocated_bytes or 0)
    reserved = max(phase.peak.reserved_bytes or 0 for phase in found.phases)
    host = f", host {format_bytes(found.host.peak)}" if found.host else ""
    peak = f"{format_bytes(top.peak.allocated_bytes)} allocated, {format_bytes(reserved)} reserved{host}"
    out.print(f"{name}, whole generation: {peak}; peak in {top.name} ({WHEN[top.call]})", style="bold")
    out.print(f"estimated for {found.stack.title}")
    if found.fits_line:
        out.print(found.fits_line, style="bold")
    columns = ["phase", "on the card", "live", "activations", "allocated", "reserved"]
    print_table(columns, [_row(phase) for phase in found.phases])
    if found.host:
        pinned, pageable = format_bytes(found.host.pinned), format_bytes(found.host.pageable)
        out.print(f"host: pinned {pinned}, pageable {pageable} at most, both {format_bytes(found.host.peak)} at most")
    show_notes(found.notes)
    out.print(f"peak of the first call: {found.peak_at.module} {found.peak_at.op}")
    show_breakdown(found)
    out.print(f"estimated in {found.seconds:.2f} s from {found.events:,} allocator events; nothing was measured")


def _row(phase: PhasePeak) -> list[str]:
    weights = ", ".join(f"{name} {format_bytes(size)}" for name, size in phase.weights.items())
    when = f"{phase.name}, again" if phase.call == 2 else phase.name
    sizes = (phase.live, phase.activations, phase.peak.allocated_bytes, phase.peak.reserved_bytes)
    return [when, weights or "-", *map(format_bytes, sizes)]


def show_estimate(found: Estimate) -> None:
    """Whether it fits, the three numbers, where the peak is, the notes; then what the peak is made of."""
    out = console()
    out.print(found.workload.key)
    out.print(found.origin)
    show_first_notes(found.notes)
    show_options(found.options)
    if found.fits_line:
        out.print(found.fits_line, style="bold")
    levels = {"peak": found.peak}
    if found.warm is not None:
        levels["later calls, peak"] = found.warm
    if found.roomy not in (None, found.peak):
        levels["peak on a roomy card"] = found.roomy
    show_levels(levels | {"before the call": found.baseline})
    out.print(found.place)
    show_notes(found.notes)
    if found.safe_reserved_bytes is not None:
        bound = format_bytes(found.safe_reserved_bytes)
        out.print(f"reserved, the most over other pasts of the process, on a roomy card: {bound}")
    out.print(f"closed-form latent: {format_bytes(found.latent.get('memory_bytes'))}")
    show_breakdown(found)
    out.print(f"estimated in {found.seconds:.2f} s from {found.events:,} allocator events; nothing was measured")
