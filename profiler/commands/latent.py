"""`latentmeter latent`: the latent tensor of a clip, by arithmetic alone."""

from collections.abc import Mapping
from typing import Any

import click

from profiler.commands.options import emit, json_option
from profiler.commands.tables import console
from profiler.data.latent import LATENT_DTYPES, estimate_video_latent_memory, rounded_up


@click.command()
@click.option("--frames", "num_frames", type=int, required=True, help="Pixel frames.")
@click.option("--height", type=int, required=True, help="Pixels.")
@click.option("--width", type=int, required=True, help="Pixels.")
@click.option("--channels", "latent_channels", type=int, required=True, help="Latent channels.")
@click.option("--spatial", "spatial_compression", type=int, required=True, help="Spatial compression.")
@click.option("--temporal", "temporal_compression", type=int, required=True, help="Temporal compression.")
@click.option("--batch", "batch_size", type=int, default=1, show_default=True, help="Clips at once.")
@click.option("--dtype", type=click.Choice(LATENT_DTYPES), default="fp16", show_default=True, help="Of the latent.")
@click.option("--patch", "patch_size", type=int, default=1, show_default=True, help="Spatial patch of the denoiser.")
@json_option
def latent(as_json: bool, **clip: Any) -> None:
    """The latent tensor of a clip, in closed form: shape, bytes, tokens."""
    emit(dict(estimate_video_latent_memory(**clip)) | {"rounded_up": rounded_up(clip)}, as_json, show_latent)


def show_latent(found: Mapping[str, Any]) -> None:
    """The closed form, a line a value."""
    shape = " x ".join(map(str, found["latent_shape"]))
    out = console()
    out.print(f"latent shape      {shape}  (B x C x T x H x W)")
    out.print(f"elements          {found['num_elements']:,}")
    out.print(f"memory            {found['memory_bytes']:,} B = {found['memory_mb']:.4f} MiB")
    out.print(f"tokens per video  {found['tokens_per_video']:,}")
    for reason in found["rounded_up"]:
        out.print(f"rounded up        {reason}")
