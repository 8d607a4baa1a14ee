"""What several commands share: options, exit codes, and how an answer is given."""

import json
import math
import re
from collections.abc import Callable
from functools import reduce
from typing import Any, TypeVar

import click

from profiler.data.workload import ATTENTIONS, BACKENDS, DTYPES, OFFLOADS, STAGES, History

Command = TypeVar("Command", bound=Callable[..., Any])
EXIT_FAILED, EXIT_USER = 1, 2

json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on standard output, nothing else."
)


force_option = click.option("--force", is_flag=True, help="Replace files that exist.")
pickle_option = click.option(
    "--allow-pickle", is_flag=True, help="Read a folder's weights from a pickle where it has no safetensors."
)


class Pixels(click.ParamType[tuple[int, ...]]):
    """Whole numbers joined by x, such as HEIGHTxWIDTH."""

    def __init__(self, form: str, example: str) -> None:
        self.name, self.example = form, example

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[int, ...]:
        parts = str(value).lower().split("x")
        if len(parts) != len(self.example.split("x")) or not all(re.fullmatch("[0-9]{1,9}", part) for part in parts):
            self.fail(f"{value!r} is not {self.name}, such as {self.example}", param, context)
        return tuple(int(part) for part in parts)


def percent(text: str) -> float:
    """A share written as a percentage: 0.02 of 2 or 2%. A finite number, not below 0."""
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = -1
    if not 0 <= share < math.inf:
        raise click.BadParameter(f"{text!r} is not a percentage, such as 2%")
    return share


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator for all `options`, in the order of `--help`."""
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


def _stage(*more: str) -> Callable[[Command], Command]:
    return click.option(
        "--stage", type=click.Choice([*STAGES, *more]), default="decode", show_default=True, help="What is run."
    )


class OrMax(click.ParamType[int | str]):
    """A whole number, or `max` for the largest that fits."""

    name = "integer|max"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int | str:
        text = str(value).lower()
        if text != "max" and not re.fullmatch("-?[0-9]{1,20}", text):
            self.fail(f"{value!r} is neither a whole number nor max", param, context)
        return "max" if text == "max" else int(text)


def _sizes(kind: Any) -> Callable[[Command], Command]:
    """Sizes default to the model's published ones."""
    return together(
        click.option("--frames", type=kind, help="Pixel frames."),
        click.option("--height", type=kind, help="Pixels."),
        click.option("--width", type=kind, help="Pixels."),
        click.option("--batch", type=kind, default=1, show_default=True, help="Clips or images at once."),
    )


_workload = together(
    click.option("--dtype", type=click.Choice(DTYPES), help="Default: the component's usual one."),
    click.option("--text-length", type=int, help="Tokens of the prompt (denoise). Default: the published length."),
    click.option("--tiling", is_flag=True, help="The VAE's own tiling."),
    click.option("--tile", type=Pixels("HEIGHTxWIDTH", "256x256"), help="Tile size in pixels, with --tiling."),
    click.option("--tile-stride", type=Pixels("HEIGHTxWIDTH", "192x192"), help="Pixels from a tile to the next one."),
    click.option("--tile-frames", type=int, help="Pixel frames of a tile, where the class cuts the clip as well."),
    click.option("--slicing", is_flag=True, help="The VAE's slicing: one batch item at a time."),
    click.option("--framewise", is_flag=True, help="The VAE's framewise coding."),
    click.option("--channels-last", is_flag=True, help="Convolution weights in channels-last order."),
    click.option("--attention", type=click.Choice(ATTENTIONS), help="Pin the kernel of torch's attention."),
    click.option("--attention-backend", metavar="NAME", help=f"diffusers' set_attention_backend: {', '.join(BACKENDS)}."),
    click.option("--autocast", type=click.Choice(["bf16", "fp16"]), help="Run fp32 weights under torch.autocast."),
    click.option("--benchmark", is_flag=True, help="cudnn.benchmark: convolution plans are timed at their first call."),
    click.option(
        "--after", type=Pixels("FRAMESxHEIGHTxWIDTH", "81x480x832"), multiple=True,
        help="A size that the process ran before (frames, pixels); may be repeated.",
    ),
    click.option("--empty-cache", is_flag=True, help="torch.cuda.empty_cache() before the call."),
    click.option("--device-map", is_flag=True, help="Weights loaded as from_pretrained(device_map=...) does."),
)  # fmt: skip

_generation = together(
    click.option(
        "--offload",
        type=click.Choice(OFFLOADS),
        help="Where components stand in a whole generation. Default: the card.",
    ),
    click.option("--stream", is_flag=True, help="Group offload over a stream of its own."),
    click.option("--record-stream", is_flag=True, help="Let the allocator wait for that stream."),
    click.option("--low-cpu-mem", is_flag=True, help="Pin weights as they are moved, not all at once."),
    click.option("--steps", type=click.IntRange(1), help="Denoising steps (generate)."),
    click.option("--guidance", type=float, help="How strong guidance is (generate)."),
    click.option("--decode-chunk", type=click.IntRange(1), help="Frames decoded at once, of SVD (generate)."),
    click.option("--images-per-prompt", type=click.IntRange(1), help="Results of a prompt (generate)."),
    click.option(
        "--lora",
        metavar="FILE|RANK",
        multiple=True,
        callback=lambda _, __, given: None if not given else given if len(given) > 1 else given[0],
        help="Load a LoRA: its safetensors file or folder; a rank makes one up (generate). Repeatable.",
    ),
)

workload_options = together(_stage(), _sizes(int), _workload)
generation_options = together(
    _stage("generate", "text-encode", "sample", "postprocess"), _sizes(int), _workload, _generation
)
search_options = together(
    click.option("--stage", type=click.Choice(["generate", *STAGES]), help="Default: a pipeline's whole generation."),
    _sizes(OrMax()),
    _workload,
    _generation,
)

alloc_conf_option = click.option(
    "--alloc-conf", help="Allocator settings, in the place of PYTORCH_CUDA_ALLOC_CONF: expandable_segments:True."
)

stack_options = together(
    click.option(
        "--gpu",
        help="Card to estimate for: an id of `latentmeter cards`, the name that torch prints, or a card file. "
        "Default: this machine's, or an H200 where there is none.",
    ),
    click.option("--torch", help="torch release to estimate for. Default: the installed one."),
    click.option("--cudnn", type=int, help="cuDNN version as torch prints it (90701). Default: torch's own."),
    alloc_conf_option,
)

card_options = together(
    stack_options,
    click.option("--vram", metavar="SIZE", help="Memory on the card's box: 12GiB. Without --gpu: the worst such card."),
    click.option(
        "--reserve", metavar="SIZE", help="Keep so much of the card free for others, such as a desktop: 1GiB."
    ),
)


def gather(values: dict[str, Any]) -> dict[str, Any]:
    """`values` as the verbs take them: what the process did before stands in `history`."""
    rest = dict(values)
    history = History(sizes=rest.pop("after"), **{name: rest.pop(name) for name in ("empty_cache", "device_map")})
    return rest | {"history": history}


def emit(data: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], None]) -> None:
    """Give the answer on standard output: `data` as one JSON document, or what `show` prints of it for a person."""
    if as_json:
        click.echo(json.dumps(data, indent=2, default=str))
    else:
        show(data)
