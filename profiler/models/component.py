"""One diffusers class alone, by its name or its config.json: an autoencoder or a denoiser without the model around it.

What a pipeline decides (layout, frame rule, inputs) comes from the catalog model of the same class with the nearest config.
Where there is none, `contract.py` describes an autoencoder, and `inputs.py` a denoiser, by the built class itself.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from profiler.errors import ModelError, UserError
from profiler.files.load import describe, read_json
from profiler.models.build import build, component_class, constructor_defaults
from profiler.models.catalog import models_with
from profiler.models.contract import compression_ratios, describe_autoencoder
from profiler.models.inputs import class_entry, describe_denoiser
from profiler.models.spec import LatentContract, ModelSpec

Config = dict[str, Any]
LATENT_KEYS = ("latent_channels", "z_dim")


def read_class(class_name: str) -> ModelSpec:
    """A model of this class alone: its default config, or a catalog model's where the defaults do not build.

    Raises UserError for what cannot be found.
    """
    cls = component_class(class_name)
    try:
        return _describe(cls, class_entry(class_name).config)
    except ModelError:
        like = _nearest(cls, {})
        if like is None:
            raise
        return _describe(cls, getattr(like, _kind(cls)).config)


def read_config(path: Path) -> ModelSpec:
    """A model of the one component that `path`, its config.json, describes."""
    config = read_json(path)
    if "_class_name" not in config:
        raise UserError(f"{path}: no `_class_name`: not the config of a diffusers component")
    return read_component(config["_class_name"], config)


def read_component(class_name: str, config: Config) -> ModelSpec:
    """A model of one component with this config. Raises UserError for what cannot be found, ModelError for a bad config."""
    cls = component_class(class_name)
    return _describe(cls, {key: value for key, value in config.items() if not key.startswith("_")})


def _describe(cls: Any, config: Config) -> ModelSpec:
    module = build(cls, config, torch.bfloat16).to("meta")
    like = _nearest(cls, config)
    if like is not None:
        return _copy(like, _kind(cls), module, config)
    part = {"class": type(module).__name__, "config": config, "dtype": "bf16", "subfolder": ""}
    try:
        return describe_autoencoder(module, part) if _kind(cls) == "vae" else describe_denoiser(module, part)
    except ValidationError as error:
        raise UserError(f"{cls.__name__}: cannot be described\n{describe(error)}") from error


def _kind(cls: Any) -> str:
    return "vae" if hasattr(cls, "decode") else "denoiser"


def _nearest(cls: Any, config: Config) -> ModelSpec | None:
    """The catalog model of this class whose config differs least."""
    defaults = constructor_defaults(cls)
    ours = defaults | config

    def differences(spec: ModelSpec) -> int:
        theirs = defaults | getattr(spec, _kind(cls)).config
        return sum(theirs.get(key) != ours.get(key) for key in theirs.keys() | ours.keys())

    return min(models_with(_kind(cls), cls.__name__), key=differences, default=None)


def _copy(like: ModelSpec, kind: str, module: nn.Module, config: Config) -> ModelSpec:
    """The model `like` reduced to one component, this one: with `kind` "vae", its VAE replaced and its denoiser left out.

    What else the catalog says of `like` stays: its layout, its sizes, what its forward takes.
    """
    name, other = type(module).__name__, "denoiser" if kind == "vae" else "vae"
    update = {
        "id": name, "name": name, "hub": None, other: None, "unknown": {other: f"a {kind} alone"},
        kind: getattr(like, kind).model_copy(update={"config": config, "parameters": None}),
        "contract": _copy_contract(like.latent, module) if kind == "vae" else like.latent,
        "sources": {"": f"its config; the rest as catalog model {like.id}"},
    }  # fmt: skip
    return like.model_copy(update=update)


def _copy_contract(like: LatentContract, module: nn.Module) -> LatentContract:
    """`like`, of a model of the same class, with this module's channels and compression."""
    config: Any = module.config
    ratios = compression_ratios(module)
    if "spatial" not in ratios and config.get("block_out_channels"):  # image autoencoders halve once between blocks
        ratios["spatial"] = 2 ** (len(config["block_out_channels"]) - 1)
    channels = next((config[key] for key in LATENT_KEYS if isinstance(config.get(key), int)), like.channels)
    return like.model_copy(
        update={"channels": channels, **{f"{axis}_compression": ratio for axis, ratio in ratios.items()}}
    )
