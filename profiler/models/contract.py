"""The latent contract of an autoencoder that no catalog model uses: read off the shapes of calls without data."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from profiler.errors import MODEL_FAILURES, UserError
from profiler.models.normalization import latents_of
from profiler.models.spec import LatentContract, Normalization

# Pixels and frames of a trial: multiples of every compression in use (up to 128 in space; 2, 4, 6 or 8 in time).
SIDE, FRAMES = 256, 24
CHANNEL_KEYS = ("in_channels", "input_channels", "out_channels")
LATENT_KEYS = ("latent_channels", "z_dim")
Shape = tuple[int, ...]


def find_contract(module: nn.Module) -> LatentContract:
    """The contract of `module`, an autoencoder on `meta`. Raises UserError where no trial goes through."""
    config: Any = module.config
    if not hasattr(module, "encode"):
        return _as_declared(module)
    for channels in dict.fromkeys([3, *(config[key] for key in CHANNEL_KEYS if key in config)]):
        clip = _encoded(module, (1, channels, FRAMES + 1, SIDE, SIDE))
        latent = clip or _encoded(module, (1, channels, SIDE, SIDE))
        if latent is None:
            continue
        temporal, rule = _frames(module, channels, latent) if clip else (1, "image")
        return LatentContract(
            layout="BCTHW" if clip else "BCHW",
            channels=latent[1],
            pixel_channels=channels,
            spatial_compression=SIDE // latent[-1],
            temporal_compression=temporal,
            frame_rule=rule,
            normalization=_normalization(module),
        )
    name = type(module).__name__
    raise UserError(
        f"{name}: no image or clip goes through its encode without data, so its latent contract is not known; "
        "describe it in a YAML file (docs/models.md)"
    )


def adapt_contract(module: nn.Module, like: LatentContract) -> LatentContract:
    """`like`, of a model of the same class, with this module's channels and compression."""
    config: Any = module.config
    blocks = config.get("block_out_channels")
    ratios = {axis: getattr(module, f"{axis}_compression_ratio", None) for axis in ("spatial", "temporal")}
    if ratios["spatial"] is None and blocks:  # image autoencoders halve once between blocks
        ratios["spatial"] = 2 ** (len(blocks) - 1)
    update = {f"{axis}_compression": ratio for axis, ratio in ratios.items() if isinstance(ratio, int)}
    channels = next((config[key] for key in LATENT_KEYS if isinstance(config.get(key), int)), like.channels)
    return like.model_copy(update={**update, "channels": channels})


def _as_declared(module: nn.Module) -> LatentContract:
    """Of a decoder alone: what the class says of itself."""
    config: Any = module.config
    spatial, temporal = (getattr(module, f"{axis}_compression_ratio", None) for axis in ("spatial", "temporal"))
    if not isinstance(spatial, int) or not isinstance(temporal, int):
        raise UserError(f"{type(module).__name__} has no encode and names no compression; describe it in a YAML file")
    return LatentContract(
        layout="BCTHW",
        channels=config.get("latent_channels") or config["in_channels"],
        spatial_compression=spatial,
        temporal_compression=temporal,
        frame_rule=f"{temporal}k+1",
        normalization=_normalization(module),
    )


def _frames(module: nn.Module, channels: int, latent: Shape) -> tuple[int, str]:
    """Temporal compression, and the frame counts that come back from encode and decode as they went in."""
    step: Any = getattr(module, "temporal_compression_ratio", None)
    decode: Any = module.decode
    dtype = next(module.parameters()).dtype
    if not isinstance(step, int):
        twice = _encoded(module, (1, channels, 2 * FRAMES + 1, SIDE, SIDE))
        step = FRAMES // (twice[2] - latent[2]) if twice and twice[2] > latent[2] else 1
    for first in (1, 0):
        frames = 2 * step + first
        there = _encoded(module, (1, channels, frames, SIDE, SIDE))
        back = there and _shape(decode, there, dtype)
        if back and back[2] == frames:
            return step, "any" if step == 1 else f"{step}k+{first}" if first else f"{step}k"
    return step, f"{step}k+1"


def _encoded(module: nn.Module, pixels: Shape) -> Shape | None:
    encode: Any = module.encode
    latent = _shape(lambda x: latents_of(encode(x)), pixels, next(module.parameters()).dtype)
    return latent if latent and len(latent) == len(pixels) else None


def _shape(call: Callable[[torch.Tensor], Any], shape: Shape, dtype: torch.dtype) -> Shape | None:
    """The shape of what `call` returns for a tensor; None where the class does not take such a one."""
    try:
        with torch.inference_mode():
            output = call(torch.empty(shape, dtype=dtype, device="meta"))
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
