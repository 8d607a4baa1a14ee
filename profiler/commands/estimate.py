"""`latentmeter estimate`: what one stage needs, without a GPU."""

from dataclasses import asdict
from typing import Any

import click

from profiler import api
from profiler.commands.options import emit, gather, json_option, stack_options, workload_options
from profiler.commands.tables import console, show_breakdown, show_first_notes, show_levels, show_notes, show_options
from profiler.data.records import Estimate
from profiler.data.units import format_bytes


@click.command()
@click.argument("model")
@workload_options
@stack_options
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
    """Peak, terms, where it stands, what is alive."""
    out = console()
    out.print(f"{found.workload.key}")
    out.print(f"estimated for {found.stack.title}")
    show_first_notes(found.notes)
    show_options(found.options)
    levels = {"baseline": found.baseline, "peak": found.peak}
    if found.warm is not None:
        levels["later calls, peak"] = found.warm
    if found.roomy not in (None, found.peak):
        levels["peak on a roomy card"] = found.roomy
    show_levels(levels)
    if found.safe_reserved_bytes is not None:
        out.print(
            f"reserved, safe bound over other histories, on a roomy card: {format_bytes(found.safe_reserved_bytes)}"
        )
    if found.fits is not None:
        room = f"{found.stack.gpu} ({format_bytes(found.stack.device_total_bytes)})"
        first = ", but the first call alone does" if found.first_call_fits and not found.fits else ""
        out.print(f"fits on an empty {room}: {'yes' if found.fits else 'NO'}{first}")
    out.print(f"closed-form latent: {format_bytes(found.latent.get('memory_bytes'))}")
    show_breakdown(found)
    show_notes(found.notes)
    out.print(f"estimated in {found.seconds:.2f} s from {found.events:,} allocator events; nothing was measured")
