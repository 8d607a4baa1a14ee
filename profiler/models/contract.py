"""An autoencoder alone: its latent contract is read off the shapes of calls without data."""

import inspect
from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import nn

from profiler.data.units import ceil_div
from profiler.errors import MODEL_FAILURES, UserError
from profiler.models.normalization import latents_of
from profiler.models.spec import LatentContract, Normalization

# Pixels and frames of a trial: multiples of every compression in use (up to 128 in space; 2, 4, 6 or 8 in time).
SIDE, FRAMES = 256, 24
CHANNEL_KEYS = ("in_channels", "input_channels", "out_channels")
Shape = tuple[int, ...]


def find_contract(module: nn.Module) -> LatentContract:
    """The contract of `module`, an autoencoder on `meta`. Raises UserError where no trial goes through."""
    config: Any = module.config
    decode: Any = module.decode
    if not hasattr(module, "encode"):
        return _as_declared(module)
    for channels in dict.fromkeys([3, *(config[key] for key in CHANNEL_KEYS if key in config)]):
        clip = _encoded(module, channels, FRAMES + 1)
        # A picture by itself, or as a clip of one frame, which is all that some classes take.
        latent = clip or _encoded(module, channels) or _encoded(module, channels, 1)
        if latent is None:
            continue
        # A decoder of rows may be told how many of them are one clip (SVD).
        of_rows = "any" if "num_frames" in inspect.signature(decode).parameters else "image"
        temporal, rule, batch = _frames(module, channels, clip) if clip else (1, of_rows, None)
        return LatentContract(
            layout="BCHW" if len(latent) == 4 else "BCTHW", channels=latent[1], pixel_channels=channels,
            spatial_compression=SIDE // latent[-1], temporal_compression=temporal,
            frame_rule=rule, decode_batch=batch, normalization=_normalization(module),
        )  # fmt: skip
    raise UserError(
        f"{type(module).__name__}: no image or clip goes through its encode without data, so its latent contract is not "
        "known; describe it in a YAML file (docs/models.md)"
    )


def compression_ratios(module: nn.Module) -> dict[str, int]:
    """What the class says of itself, by axis: "spatial", "temporal", both or neither."""
    config: Any = module.config  # first: a config's value as the module's attribute is deprecated, with a warning
    names = {axis: f"{axis}_compression_ratio" for axis in ("spatial", "temporal")}
    ratios = {axis: config[name] if name in config else getattr(module, name, None) for axis, name in names.items()}
    return {axis: ratio for axis, ratio in ratios.items() if isinstance(ratio, int)}


def _as_declared(module: nn.Module) -> LatentContract:
    """Of a decoder alone: what the class says of itself."""
    config: Any = module.config
    ratios = compression_ratios(module)
    if len(ratios) < 2:
        raise UserError(f"{type(module).__name__} has no encode and names no compression; describe it in a YAML file")
    return LatentContract(
        layout="BCTHW", channels=config.get("latent_channels") or config["in_channels"],
        spatial_compression=ratios["spatial"], temporal_compression=ratios["temporal"],
        frame_rule=f"{ratios['temporal']}k+1", normalization=_normalization(module),
    )  # fmt: skip


def _frames(module: nn.Module, channels: int, latent: Shape) -> tuple[int, str, int | None]:
    """Temporal compression, the frame counts that give latents of it and come back, and the `decode_batch`.

    Raises UserError where neither a first frame apart nor whole blocks, of one compressed step or up to four, do.
    """
    for step in _steps(module, channels, latent):
        for block, first in product((step, 2 * step, 4 * step), (1, 0)):
            frames = [block + first, 2 * block + first]
            back = [_back(module, channels, count, step) for count in frames]
            if back == frames:
                return step, "any" if block == 1 else f"{block}k+{first}" if first else f"{block}k", None
            if (block, first) == (step, 1) and back == [2 * step, frames[1]]:
                return step, f"{step}k+1", 2
    raise UserError(
        f"{type(module).__name__}: which numbers of frames it takes cannot be told from its encode and decode; "
        "describe it in a YAML file (docs/models.md)"
    )


def _steps(module: nn.Module, channels: int, latent: Shape) -> Iterator[int]:
    """The temporal compression that the class declares, then its shapes' own: HunyuanImage's refiner declares 4, does 1."""
    if declared := compression_ratios(module).get("temporal"):
        yield declared
    twice = _encoded(module, channels, 2 * FRAMES + 1)
    yield FRAMES // (twice[2] - latent[2]) if twice and twice[2] > latent[2] else 1


def _back(module: nn.Module, channels: int, frames: int, step: int) -> int | None:
    """The frames that decode gives for the latents of so many; None where they are not of that compression."""
    latent = _encoded(module, channels, frames)
    if latent is None or latent[2] != ceil_div(frames, step):
        return None
    config: Any = module.config
    timestep = [torch.zeros(1, device="meta")] if config.get("timestep_conditioning") else []  # LTX 0.9.1 and later
    back = _shape(module, lambda z: module.decode(z, *timestep), latent)  # type: ignore[operator]
    return back[2] if back else None


def _encoded(module: nn.Module, channels: int, *frames: int) -> Shape | None:
    """The shape of the latents of a clip of so many frames, or of an image; None where the class does not take it."""
    encode: Any = module.encode
    pixels = (1, channels, *frames, SIDE, SIDE)
    latent = _shape(module, lambda x: latents_of(encode(x)), pixels)
    return latent if latent and len(latent) == len(pixels) else None


def _shape(module: nn.Module, call: Any, shape: Shape) -> Shape | None:
    """The shape of what `call` returns for a tensor; None where the class does not take such a one."""
    try:
        with torch.inference_mode():
            output = call(torch.empty(shape, dtype=next(module.parameters()).dtype, device="meta"))
    except MODEL_FAILURES:
        return None
    return tuple(getattr(output, "sample", output).shape)


def _normalization(module: nn.Module) -> Normalization:
    """How its latents are normalized, as told by what the class keeps: a BatchNorm, statistics per channel, or a factor."""
    config: Any = module.config
    if isinstance(getattr(module, "bn", None), nn.BatchNorm2d):
        return "batch-norm"
    if config.get("latents_mean") is not None or "latents_mean" in dict(module.named_buffers(recurse=False)):
        return "mean-std"
    return "scale" if config.get("scaling_factor") else "none"
