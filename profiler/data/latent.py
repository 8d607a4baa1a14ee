"""The closed form of a latent: shape, bytes and tokens, from integers alone.

No torch and no I/O: what is here holds for every model and device, and the estimator and the measurement are both
checked against it. Sizes that do not divide are rounded up, which never undercounts; whether a model pads, crops or
refuses them is for its contract to say.

Shape legend: B batch, C channels, T latent frames, H and W latent height and width. Every bad argument is a UserError (a
ValueError) that names the argument.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Literal, get_args

from typing_extensions import TypedDict  # pydantic, which brings it, reads no other one before Python 3.12

from profiler.data.units import ELEMENT_BYTES, MIB, ceil_div, check_size
from profiler.errors import UserError

LatentDtype = Literal["fp32", "fp16", "bf16", "fp8"]
Layout = Literal["BCTHW", "BTCHW", "BTHWC", "BCHW"]

LATENT_DTYPES: tuple[LatentDtype, ...] = get_args(LatentDtype)


class LatentEstimate(TypedDict, total=False):
    """What `estimate_video_latent_memory` returns, all of it; a record of an older version may have less."""

    latent_shape: tuple[int, int, int, int, int]
    num_elements: int
    memory_bytes: int
    memory_mb: float
    tokens_per_video: int


def estimate_video_latent_memory(
    num_frames: int,
    height: int,
    width: int,
    latent_channels: int,
    spatial_compression: int,
    temporal_compression: int,
    batch_size: int = 1,
    dtype: LatentDtype = "fp16",
    patch_size: int = 1,
) -> LatentEstimate:
    """The latent of `batch_size` videos of `num_frames` x `height` x `width` pixels.

    Returns `latent_shape` (B, C, T, H, W), `num_elements`, `memory_bytes`, `memory_mb` (2^20 bytes, 4 decimals) and
    `tokens_per_video` = T * ceil(H / patch_size) * ceil(W / patch_size), in which the batch does not count.

    T = ceil(num_frames / temporal_compression), H and W likewise by `spatial_compression`. A causal VAE, which encodes
    its first frame alone, gives (num_frames - 1) / r + 1; for the r*k + 1 frames that it takes that is the same number:
    81 frames by 4 are ceil(81 / 4) = (81 - 1) / 4 + 1 = 21.

    Raises UserError for a size that is not an int from 1 to a million, and for an unknown dtype.
    """
    sizes = {
        "num_frames": num_frames,
        "height": height,
        "width": width,
        "latent_channels": latent_channels,
        "spatial_compression": spatial_compression,
        "temporal_compression": temporal_compression,
        "batch_size": batch_size,
        "patch_size": patch_size,
    }
    for name, size in sizes.items():
        check_size(name, size)
    if dtype not in LATENT_DTYPES:
        raise UserError(f"dtype: no dtype {dtype!r}; one of {', '.join(LATENT_DTYPES)}")
    frames = ceil_div(num_frames, temporal_compression)
    rows, columns = ceil_div(height, spatial_compression), ceil_div(width, spatial_compression)
    shape = (batch_size, latent_channels, frames, rows, columns)
    memory_bytes = prod(shape) * ELEMENT_BYTES[dtype]
    return {
        "latent_shape": shape,
        "num_elements": prod(shape),
        "memory_bytes": memory_bytes,
        "memory_mb": round(memory_bytes / MIB, 4),
        "tokens_per_video": frames * ceil_div(rows, patch_size) * ceil_div(columns, patch_size),
    }


def rounded_up(clip: Mapping[str, Any]) -> list[str]:
    """What `estimate_video_latent_memory` rounds up for the arguments `clip`, a sentence each.

    Frames of the form r*k + 1 are not rounded: a causal VAE takes its first frame alone.
    """
    step, side, patch = clip["temporal_compression"], clip["spatial_compression"], clip["patch_size"]
    found = [] if clip["num_frames"] % step in (0, 1) else [f"{clip['num_frames']} frames: not {step}k or {step}k + 1"]
    for name in ("height", "width"):
        positions = ceil_div(clip[name], side)
        found += [f"{name} {clip[name]}: no multiple of {side}"] if clip[name] % side else []
        found += [f"{positions} latents in {name}: no multiple of patch {patch}"] if positions % patch else []
    return found


def to_layout(shape: Sequence[int], source: Layout, target: Layout) -> tuple[int, ...]:
    """The `shape` of a tensor in layout `source`, as it reads in layout `target`.

    `BCHW` is the per-frame view, B*T rows of one frame each: (1, 16, 24, 90, 160) as BCTHW is (24, 16, 90, 160). It is
    for image layers only, which treat rows alike. Frames are not the batch: a layer that looks along time must not see
    it, and 24 such rows are one video of 24 frames, not 24 videos. There is no way back, which raises UserError.
    """
    sizes = dict(zip(source, shape, strict=True))
    if "T" in target and "T" not in sizes:
        raise UserError(f"layout: {source} rows are batch x frames; they do not say how many frames {target} has")
    if "T" in sizes and "T" not in target:
        sizes["B"] *= sizes["T"]
    return tuple(sizes[axis] for axis in target)
