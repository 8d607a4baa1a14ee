"""`latentmeter estimate`: what one stage needs, or a whole generation, without a GPU."""

from dataclasses import asdict
from typing import Any

import click

from profiler import api
from profiler.commands.generation import show_generation, told_on_terminal
from profiler.commands.options import (
    card_options,
    emit,
    fit_command,
    gather,
    generation_options,
    json_option,
    stack_options,
)
from profiler.commands.tables import (
    console,
    show_breakdown,
    show_first_notes,
    show_levels,
    show_notes,
    show_options,
)
from profiler.data.records import CallEstimate, Estimate
from profiler.data.units import format_bytes
from profiler.data.workload import STAGES, History, Placement
from profiler.errors import UserError
from profiler.models.lora import each_lora

PLACEMENT = ("offload", "stream", "record_stream", "low_cpu_mem")
OF_GENERATION = (*PLACEMENT, "steps", "guidance", "images_per_prompt", "decode_chunk", "lora")


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
    answer is traced and kept. After `latentmeter recordings make MODEL` other heights and widths are answered at once. With
    --offload a stage is answered as it is within a generation, as text-encode, sample and postprocess always are.
    """
    asked = generation_asked(values)
    if placement := asked.get("placement"):
        with told_on_terminal() as tell:
            whole = api.generate(model, cache=not no_cache, tell=tell, **asked)
        title = [model, "whole generation" if asked["stage"] == "generate" else f"{asked['stage']} in a generation"]
        title += [f"lora {' and '.join(map(str, each_lora(asked['lora'])))}"] if "lora" in asked else []
        emit(
            asdict(whole),
            as_json,
            lambda _: show_generation(", ".join([*title, *filter(None, [placement.key])]), whole),
        )
        _say_fit(model, whole, asked, as_json)
        return
    found = api.estimate(model, cache=not no_cache, **asked)
    emit(asdict(found), as_json, lambda _: show_estimate(found))
    _say_fit(model, found, asked, as_json)


def _say_fit(model: str, found: CallEstimate, asked: dict[str, Any], as_json: bool) -> None:
    """What to type where it does not fit."""
    if found.fits is False and not as_json and asked["stage"] in ("generate", *STAGES):
        whole = "generate" if "placement" in asked else asked["stage"]
        console().print(f"what would fit: {fit_command(model, asked | {'stage': whole})}")


def generation_asked(values: dict[str, Any]) -> dict[str, Any]:
    """What `generation_options` ask for, as the verbs take it: with a `placement` where it is of a whole generation."""
    own = {name: value for name in OF_GENERATION if (value := values.pop(name)) not in (None, False)}
    asked = gather(values)
    placed = {name: own.pop(name) for name in PLACEMENT if name in own}
    if placed or asked["stage"] not in STAGES:
        return _of_generation(asked) | own | {"placement": Placement(**placed)}
    for name in own:
        raise UserError(f"{name}: goes with --stage generate, or with a stage and --offload")
    return asked


def _of_generation(asked: dict[str, Any]) -> dict[str, Any]:
    """What the command line asks, as arguments of `profiler.generate`."""
    if asked["history"] != History():
        raise UserError("after, empty_cache and device_map: go with a single stage; a generation has two calls")
    rest = {name: value for name, value in asked.items() if name not in ("history", "batch") and value is not None}
    return rest | {"prompts": asked["batch"]}


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
