"""One diffusers class alone, by its name or its config.json: an autoencoder or a denoiser without the model around it.

What a pipeline decides (layout, frame rule, inputs) comes from the catalog model of the same class with the nearest config,
and from the class itself where there is none.
"""

import inspect
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from profiler.errors import ModelError, UserError
from profiler.files.load import describe, read_json
from profiler.models.build import TORCH_DTYPES, build, component_class, materialize
from profiler.models.catalog import models_with
from profiler.models.contract import adapt_contract, find_contract
from profiler.models.inputs import class_entry, find_grid, find_inputs, text_width
from profiler.models.spec import Component, Denoiser, LatentContract, ModelSpec, Size, Text, Vae

Config = dict[str, Any]
# What a class does not say of itself, and most models of its kind have.
IMAGE, CLIP = Size(height=1024, width=1024), Size(frames=49, height=512, width=768)
SPATIAL, TEMPORAL, TEXT_LENGTH = 8, 4, 512


def read_class(class_name: str) -> ModelSpec:
    """A model of this class alone: its default config, or a catalog model's where the defaults do not build.

    Raises UserError for what cannot be found.
    """
    try:
        return read_component(class_name, class_entry(class_name).config)
    except ModelError:
        like = _nearest(_kind(class_name), class_name, {})
        if like is None:
            raise
        return read_component(class_name, getattr(like, _kind(class_name)).config)


def read_config(path: Path) -> ModelSpec:
    """A model of the one component that `path`, its config.json, describes."""
    config = read_json(path)
    if "_class_name" not in config:
        raise UserError(f"{path}: no `_class_name`: not the config of a diffusers component")
    return read_component(config["_class_name"], config)


def read_component(class_name: str, config: Config) -> ModelSpec:
    """A model of one component with this config. Raises UserError for what cannot be found, ModelError for a bad config."""
    kind = _kind(class_name)
    config = {key: value for key, value in config.items() if not key.startswith("_")}
    like = _nearest(kind, class_name, config)
    module = _on_meta(class_name, config)
    try:
        if like is not None:
            return _as(like, kind, module, config)
        return _alone_vae(module, config) if kind == "vae" else _alone_denoiser(module, config)
    except ValidationError as error:
        raise UserError(f"{class_name}: cannot be described\n{describe(error)}") from error


def _nearest(kind: str, class_name: str, config: Config) -> ModelSpec | None:
    """The catalog model of this class whose config differs least."""

    def differences(spec: ModelSpec) -> int:
        theirs = defaults | getattr(spec, kind).config
        return sum(theirs.get(key) != ours.get(key) for key in theirs.keys() | ours.keys())

    parameters = inspect.signature(component_class(class_name)).parameters.values()
    defaults = {parameter.name: parameter.default for parameter in parameters}
    ours = defaults | config
    return min(models_with(kind, class_name), key=differences, default=None)


def _kind(class_name: str) -> str:
    return "vae" if hasattr(component_class(class_name), "decode") else "denoiser"


def _component(class_name: str, config: Config) -> Config:
    return {"class": class_name, "config": config, "dtype": "bf16", "subfolder": ""}


def _on_meta(class_name: str, config: Config) -> nn.Module:
    component = Component.model_validate(_component(class_name, config))
    return materialize(build(component, TORCH_DTYPES["bf16"]), torch.device("meta"))


def _as(like: ModelSpec, kind: str, module: nn.Module, config: Config) -> ModelSpec:
    """The model `like` reduced to one component, this one: with `kind` "vae", its VAE replaced and its denoiser left out.

    What else the catalog says of `like` stays: its layout, its sizes, what its forward takes.
    """
    name = type(module).__name__
    part = getattr(like, kind).model_copy(update={"config": config, "parameters": None})
    contract = adapt_contract(module, like.latent) if kind == "vae" else like.latent
    other = "denoiser" if kind == "vae" else "vae"
    update = {
        "id": name, "name": name, kind: part, other: None, "contract": contract, "hub": None,
        "unknown": {other: f"a {kind} alone"}, "sources": {"": f"its config; the rest as catalog model {like.id}"},
    }  # fmt: skip
    return like.model_copy(update=update)


def _alone_vae(module: nn.Module, config: Config) -> ModelSpec:
    name, contract = type(module).__name__, find_contract(module)
    size = IMAGE
    if contract.frame_rule not in ("image", "any"):
        size = CLIP if contract.frame_rule.endswith("+1") else CLIP.model_copy(update={"frames": CLIP.frames - 1})
    return ModelSpec(
        id=name, name=name, latent=contract, default=size, unknown={"denoiser": "a vae alone"},
        vae=Vae.model_validate(_component(name, config)),
        sources={"latent": "shapes of an encode and decode without data"},
    )  # fmt: skip


def _alone_denoiser(module: nn.Module, config: Config) -> ModelSpec:
    name, entry = type(module).__name__, class_entry(type(module).__name__)
    grid = find_grid(module)
    is_video = "T" in grid or "3D" in name or "Video" in name
    patch = entry.patch or _patch(module, grid)
    width = text_width(module)
    full: Any = module.config
    halvings = len(full.get("block_out_channels", [None])) - 1 if "UNet" in name else 0
    channels = full.get(grid[-1] if len(grid) == 3 else grid[1], 1)
    return ModelSpec(
        id=name,
        name=name,
        default=entry.default or (CLIP if is_video else IMAGE),
        latent=LatentContract(
            layout="BCTHW" if is_video else "BCHW",
            channels=channels // (patch[1] * patch[2]) if "N" in grid else channels,
            spatial_compression=SPATIAL,
            temporal_compression=TEMPORAL if is_video else 1,
            frame_rule=f"{TEMPORAL}k+1" if is_video else "image",
        ),
        vae=None,
        denoiser=Denoiser.model_validate(
            _component(name, config)
            | {
                "patch": patch,
                "multiple_of": SPATIAL * max(patch[1:]) * 2**halvings,
                "inputs": find_inputs(module, grid),
                "patch_embed": "a denoiser alone",
            }
        ),
        text=entry.text or (Text(encoder="unknown", length=TEXT_LENGTH, dim=width) if width else None),
        unknown={"vae": "a denoiser alone"},
        sources={
            "latent": f"assumed: {SPATIAL}x in space" + (f", {TEMPORAL}x in time" if is_video else ""),
            "denoiser.inputs": "names and defaults of the forward, widths of the config (configs/inputs.yaml)",
        },
    )  # fmt: skip


def _patch(module: nn.Module, grid: list[Any]) -> tuple[int, int, int]:
    """The patch (t, h, w) that one token stands for, by the config.

    A class that takes tokens and names no patch, as FLUX does, gets them from its pipeline as patches of 2x2 positions.
    """
    config: Any = module.config
    size = config.get("patch_size") or 1
    if isinstance(size, (tuple, list)):
        return (1, *size)[-3:] if len(size) == 2 else tuple(size)
    if "N" in grid and size == 1 and config.get(grid[-1], 1) % 4 == 0:
        return (1, 2, 2)
    return (config.get("patch_size_t") or 1, size, size)
