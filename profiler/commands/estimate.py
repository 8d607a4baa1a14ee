"""`latentmeter estimate`: what one stage needs, or a whole generation, without a GPU."""

from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from typing import Any

import click

import profiler
from profiler.commands.generation import show_generation, told_on_terminal
from profiler.commands.options import card_options, emit, gather, generation_options, json_option
from profiler.commands.tables import console, show_breakdown, show_first_notes, show_levels, show_notes, show_options
from profiler.data.asked import gathered
from profiler.data.records import CallEstimate, Estimate
from profiler.data.text import fit_command
from profiler.data.units import format_bytes
from profiler.data.workload import STAGES, GenerationOptions, History, Placement
from profiler.errors import UserError
from profiler.models.lora import each_lora

OF_GENERATION = (*(field.name for field in fields(Placement)), *GenerationOptions().call)


@click.command()
@click.argument("model")
@generation_options
@card_options
@click.option("--no-cache", is_flag=True, help="Trace anew; neither read nor keep anything on disk.")
@json_option
def estimate(model: str, no_cache: bool, as_json: bool, **values: Any) -> None:
    """What MODEL needs for one stage, without a GPU; with --stage generate for all from a prompt to a picture or clip.

    MODEL is a catalog id, a YAML file, a diffusers class, a component's config.json, a diffusers folder or a hub id. A first
    answer is traced and kept. After `latentmeter recordings make MODEL` other heights and widths are answered at once. With
    --offload a stage is answered as it is within a generation, as text-encode, sample and postprocess always are.
    """
    asked = generation_asked(values)
    stage, placement = asked["stage"], asked.get("placement")
    found: CallEstimate
    show: Callable[[Any], None] = show_estimate
    if placement is None:
        found = profiler.estimate(model, cache=not no_cache, **asked)
    else:
        with told_on_terminal() as tell:
            found = profiler.generate(model, cache=not no_cache, tell=tell, **asked)
        title = [model, "whole generation" if stage == "generate" else f"{stage} in a generation"]
        title += [f"lora {' and '.join(map(str, each_lora(asked['lora'])))}"] if "lora" in asked else []
        show = partial(show_generation, ", ".join(filter(None, [*title, placement.key])))
    emit(asdict(found), as_json, lambda _: show(found))
    if found.fits is False and not as_json and stage in ("generate", *STAGES):
        whole = "generate" if placement else stage
        console().print(f"what would fit: {fit_command(model, asked | {'stage': whole})}")


def generation_asked(values: dict[str, Any]) -> dict[str, Any]:
    """What `generation_options` ask for, as the verbs take it: with a `placement` where it is of a whole generation."""
    own = gathered({name: value for name in OF_GENERATION if (value := values.pop(name)) not in (None, False)})
    asked = gather(values)
    if "placement" in own or asked["stage"] not in STAGES:
        if asked.pop("history") != History():
            raise UserError("after, empty_cache and device_map: go with a single stage; a generation has two calls")
        asked["prompts"] = asked.pop("batch")
        given = {name: value for name, value in asked.items() if value is not None}
        return given | {"placement": Placement()} | own
    for name in own:
        raise UserError(f"{name}: goes with --stage generate, or with a stage and --offload")
    return asked


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
