"""`latentmeter estimate`: what one stage needs, without a GPU."""

from dataclasses import asdict
from typing import Any

import click

from profiler import api
from profiler.commands.options import card_options, emit, gather, json_option, stack_options, workload_options
from profiler.commands.tables import console, show_breakdown, show_first_notes, show_levels, show_notes, show_options
from profiler.data.records import Estimate
from profiler.data.units import format_bytes


@click.command()
@click.argument("model")
@workload_options
@stack_options
@card_options
@click.option("--no-cache", is_flag=True, help="Trace anew; neither read nor keep anything on disk.")
@json_option
def estimate(model: str, no_cache: bool, as_json: bool, **values: Any) -> None:
    """What MODEL needs for one stage, without a GPU.

    MODEL is a catalog id, a YAML file, a diffusers class, a component's config.json, a diffusers folder or a hub id. A first
    answer is traced and kept. After `latentmeter recordings make MODEL` other heights and widths are answered at once.
    """
    found = api.estimate(model, cache=not no_cache, **gather(values))
    emit(asdict(found), as_json, lambda _: show_estimate(found))


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
