"""An autoencoder that no catalog model uses: its latent contract is read off the shapes of calls without data."""

from typing import Any

import torch
from torch import nn

from profiler.errors import MODEL_FAILURES, UserError
from profiler.models.normalization import latents_of
from profiler.models.spec import CLIP, IMAGE, LatentContract, ModelSpec, Normalization, Vae

# Pixels and frames of a trial: multiples of every compression in use (up to 128 in space; 2, 4, 6 or 8 in time).
SIDE, FRAMES = 256, 24
CHANNEL_KEYS = ("in_channels", "input_channels", "out_channels")
Shape = tuple[int, ...]


def describe_autoencoder(module: nn.Module, part: dict[str, Any]) -> ModelSpec:
    """A model of `module` alone, built on `meta`; `part` is it as a component of a model's file.

    Raises UserError where its latent contract cannot be found.
    """
    name, contract = type(module).__name__, find_contract(module)
    size = IMAGE
    if contract.frame_rule not in ("image", "any"):
        size = CLIP if contract.frame_rule.endswith("+1") else CLIP.model_copy(update={"frames": CLIP.frames - 1})
    return ModelSpec(
        id=name, name=name, latent=contract, default=size, vae=Vae.model_validate(part),
        unknown={"denoiser": "a vae alone"}, sources={"latent": "shapes of an encode and decode without data"},
    )  # fmt: skip


def find_contract(module: nn.Module) -> LatentContract:
    """The contract of `module`, an autoencoder on `meta`. Raises UserError where no trial goes through."""
    config: Any = module.config
    if not hasattr(module, "encode"):
        return _as_declared(module)
    for channels in dict.fromkeys([3, *(config[key] for key in CHANNEL_KEYS if key in config)]):
        clip = _encoded(module, channels, FRAMES + 1)
        latent = clip or _encoded(module, channels)
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
    raise UserError(
        f"{type(module).__name__}: no image or clip goes through its encode without data, so its latent contract is not "
        "known; describe it in a YAML file (docs/models.md)"
    )


def compression_ratios(module: nn.Module) -> dict[str, int]:
    """What the class says of itself, by axis: "spatial", "temporal", both or neither."""
    ratios = {axis: getattr(module, f"{axis}_compression_ratio", None) for axis in ("spatial", "temporal")}
    return {axis: ratio for axis, ratio in ratios.items() if isinstance(ratio, int)}


def _as_declared(module: nn.Module) -> LatentContract:
    """Of a decoder alone: what the class says of itself."""
    config: Any = module.config
    ratios = compression_ratios(module)
    if len(ratios) < 2:
        raise UserError(f"{type(module).__name__} has no encode and names no compression; describe it in a YAML file")
    return LatentContract(
        layout="BCTHW",
        channels=config.get("latent_channels") or config["in_channels"],
        spatial_compression=ratios["spatial"],
        temporal_compression=ratios["temporal"],
        frame_rule=f"{ratios['temporal']}k+1",
        normalization=_normalization(module),
    )


def _frames(module: nn.Module, channels: int, latent: Shape) -> tuple[int, str]:
    """Temporal compression, and the frame counts that come back from encode and decode as they went in."""
    step = compression_ratios(module).get("temporal")
    if step is None:
        twice = _encoded(module, channels, 2 * FRAMES + 1)
        step = FRAMES // (twice[2] - latent[2]) if twice and twice[2] > latent[2] else 1
    for first in (1, 0):
        there = _encoded(module, channels, 2 * step + first)
        back = there and _shape(module, module.decode, there)
        if back and back[2] == 2 * step + first:
            return step, "any" if step == 1 else f"{step}k+{first}" if first else f"{step}k"
    return step, f"{step}k+1"


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
