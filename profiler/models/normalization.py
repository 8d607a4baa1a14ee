"""Latents between VAE and denoiser: what a pipeline does after encode, and before decode."""

from typing import Any

import torch
from torch import nn

from profiler.errors import ModelError
from profiler.models.spec import Normalization


def latents_of(encoded: Any) -> torch.Tensor:
    """The latents of an encoder's answer: a posterior's mode, or the tensor that a deterministic VAE gives."""
    posterior = getattr(encoded, "latent_dist", None)
    for found in (posterior and posterior.mode(), *(getattr(encoded, name, None) for name in ("latent", "latents"))):
        if isinstance(found, torch.Tensor):
            return found
    raise ModelError(f"encode returned {type(encoded).__name__}, which has no latent_dist, latent or latents")


def to_denoiser(latents: torch.Tensor, vae: nn.Module, kind: Normalization) -> torch.Tensor:
    """The VAE's latents as the denoiser sees them; for `batch-norm` 2x2 patches become channels."""
    if kind == "none":
        return latents
    if kind == "scale":
        return (latents - _number(vae, "shift_factor", 0.0)) * _number(vae, "scaling_factor", 1.0)
    if kind == "batch-norm":
        latents = nn.functional.pixel_unshuffle(latents, 2)
        mean, std = _running_statistics(vae, latents)
        return (latents - mean) / std
    mean, std = _statistics(vae, latents)
    return (latents - mean) * _number(vae, "scaling_factor", 1.0) / std


def to_vae(latents: torch.Tensor, vae: nn.Module, kind: Normalization) -> torch.Tensor:
    """The denoiser's latents as the decoder wants them: the inverse of `to_denoiser`."""
    if kind == "none":
        return latents
    if kind == "scale":
        return latents / _number(vae, "scaling_factor", 1.0) + _number(vae, "shift_factor", 0.0)
    if kind == "batch-norm":
        mean, std = _running_statistics(vae, latents)
        return nn.functional.pixel_shuffle(latents * std + mean, 2)
    mean, std = _statistics(vae, latents)
    return latents * std / _number(vae, "scaling_factor", 1.0) + mean


def _number(vae: nn.Module, name: str, otherwise: float) -> float:
    config: Any = vae.config
    return config.get(name) or otherwise


def _statistics(vae: nn.Module, latents: torch.Tensor) -> list[torch.Tensor]:
    """Mean and std per channel, shaped to broadcast; from the config, or from buffers of the VAE (LTX).

    Where there are more values than channels, they are channels x frames (Cosmos 1.0), of which the clip takes its own.
    """
    config: Any = vae.config
    buffers = dict(vae.named_buffers(recurse=False))
    shape = (1, latents.shape[1], -1, 1, 1)[: latents.dim()]
    values = [buffers.get(name, config.get(name)) for name in ("latents_mean", "latents_std")]
    tensors = [torch.as_tensor(value).to(latents.device, latents.dtype).view(shape) for value in values]
    return [tensor[:, :, : latents.shape[2]] for tensor in tensors]


def _running_statistics(vae: nn.Module, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and std of the VAE's BatchNorm (FLUX.2)."""
    norm: Any = vae.bn
    config: Any = vae.config
    mean = norm.running_mean.view(1, -1, 1, 1).to(latents.dtype)
    return mean, torch.sqrt(norm.running_var.view(1, -1, 1, 1) + config.batch_norm_eps).to(latents.dtype)
