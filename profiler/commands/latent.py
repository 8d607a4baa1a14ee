"""`latentmeter latent`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from profiler.commands.tables import console

if TYPE_CHECKING:
    pass

from profiler.commands.options import emit, json_option


@click.command()
@click.option("--frames", type=int, required=True, help="Pixel frames.")
@click.option("--height", type=int, required=True, help="Pixels.")
@click.option("--width", type=int, required=True, help="Pixels.")
@click.option("--channels", type=int, required=True, help="Latent channels.")
@click.option("--spatial", type=int, required=True, help="Spatial compression.")
@click.option("--temporal", type=int, required=True, help="Temporal compression.")
@click.option("--batch", type=int, default=1, show_default=True, help="Clips at once.")
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "fp16", "bf16", "fp8"]),
    default="fp16",
    show_default=True,
    help="Of the latent.",
)
@click.option("--patch", type=int, default=1, show_default=True, help="Spatial patch of the denoiser.")
@json_option
def latent(
    frames: int, height: int, width: int, channels: int, spatial: int, temporal: int, batch: int, dtype: Any, patch: int,
    as_json: bool,
) -> None:  # fmt: skip
    """The latent tensor of a clip, in closed form: shape, bytes, tokens."""
    from profiler.data.latent import estimate_video_latent_memory

    found = estimate_video_latent_memory(
        frames, height, width, channels, spatial, temporal, batch_size=batch, dtype=dtype, patch_size=patch
    )
    emit(dict(found), as_json, show_latent)


def show_latent(found: Mapping[str, Any]) -> None:
    """The closed form, a line a value."""
    shape = " x ".join(map(str, found["latent_shape"]))
    console().print(f"latent shape      {shape}  (B x C x T x H x W)")
    console().print(f"elements          {found['num_elements']:,}")
    console().print(f"memory            {found['memory_bytes']:,} B = {found['memory_mb']:.4f} MiB")
    console().print(f"tokens per video  {found['tokens_per_video']:,}")
