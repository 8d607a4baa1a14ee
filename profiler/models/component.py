"""One diffusers class alone, by its name or its config.json: an autoencoder or a denoiser without the model around it.

What it is comes from itself and its own config: an autoencoder's latent contract from the shapes of calls without data
(`contract.py`), a denoiser's from its layers (`inputs.py`). Catalog models of the same class lend what the class cannot say
and its pipeline decides, as what a forward is given, and that only where all who could lend it agree. Sizes are never lent:
frames, height, width and the length of a text are the config's own, or they are asked for.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from profiler.errors import ModelError, UserError
from profiler.files.load import describe, from_dict, to_dict
from profiler.models.build import build, component_class, constructor_defaults
from profiler.models.catalog import models_with
from profiler.models.contract import find_contract
from profiler.models.inputs import class_entry, describe_denoiser, own_patch, pixel_multiple
from profiler.models.spec import LatentContract, ModelSpec, Size, Vae

Config = dict[str, Any]
LENT = ("inputs", "patch_embed", "patch", "window", "frame_rule", "dtype")  # by a model to a denoiser of its class
OWN_DEFAULTS = "the class's own defaults, which may be those of no published model; for one give its config.json"


def read_class(class_name: str) -> ModelSpec:
    """A model of this class alone: its default config, or where that does not build, that of the one catalog model of it.

    Raises UserError for what cannot be found, ModelError for a class that does not build.
    """
    cls = component_class(class_name)
    try:
        return _say_config(_describe(cls, class_entry(class_name).config), OWN_DEFAULTS)
    except ModelError as error:
        known = models_with(_kind(cls), class_name)
        if len(known) == 1:
            found = _describe(cls, getattr(known[0], _kind(cls)).config)
            found = replace(found, default=None)  # that config's `sample_size` is the other's size
            return _say_config(found, f"that of catalog model {known[0].id}: the class's defaults do not build")
        names = f"; catalog models of this class: {', '.join(spec.id for spec in known)}" if known else ""
        raise ModelError(f"{error}; give its config.json{names}") from error


def _say_config(spec: ModelSpec, source: str) -> ModelSpec:
    """Whose config it is, which an estimate says before its figures: few defaults are those of a published model."""
    return replace(spec, sources=spec.sources | {"config": source})


def read_component(config: Config, path: Path, class_name: str | None = None) -> ModelSpec:
    """A model of the one component that `config`, read from `path`, describes; `class_name` is what others call its class.

    Raises UserError for what cannot be found, ModelError for a bad config.
    """
    class_name = class_name or config.get("_class_name")
    if class_name is None:
        raise UserError(f"{path}: no `_class_name`: not the config of a diffusers component")
    if not isinstance(class_name, str):
        raise UserError(f"{path}: `_class_name` must be the name of a diffusers class, not {class_name!r}")
    return _describe(component_class(class_name), {key: value for key, value in config.items() if key[:1] != "_"})


def _describe(cls: Any, config: Config) -> ModelSpec:
    module = build(cls, config, torch.bfloat16).to("meta")
    found = _autoencoder(module, config) if _kind(cls) == "vae" else _denoiser(module, config)
    try:
        return from_dict(ModelSpec, to_dict(found))
    except ValidationError as error:
        raise UserError(f"{cls.__name__}: cannot be described\n{describe(error)}") from error


def _kind(cls: Any) -> str:
    return "vae" if hasattr(cls, "decode") else "denoiser"


def _autoencoder(module: nn.Module, config: Config) -> ModelSpec:
    """Of the catalog: whether the class runs with tiles only, its usual dtype, and a contract that shapes do not tell."""
    name = type(module).__name__
    known = models_with("vae", name)
    tiling, dtype = _agreed(spec.vae.tiling for spec in known if spec.vae), _agreed(s.vae.dtype for s in known if s.vae)
    source = "shapes of an encode and decode without data"
    try:
        contract = find_contract(module)
    except UserError:
        contract = _agreed(spec.latent for spec in known)
        if contract is None:
            raise
        source = f"the class, as catalog model {known[0].id} describes it"
    vae = Vae(class_name=name, config=config, dtype=dtype or "bf16", subfolder="", tiling=tiling or "optional")
    return ModelSpec(
        id=name, name=name, contract=contract, default=_picture(contract, config, 1), vae=vae,
        unknown={"denoiser": "a vae alone"}, sources={"latent": source},
    )  # fmt: skip


def _denoiser(module: nn.Module, config: Config) -> ModelSpec:
    """Of the catalog, by the models with the nearest config: what a forward is given, in which contract, how guided.

    The patch is theirs where the config says of it what theirs does (FLUX packs 2x2 positions and says 1). Learned positions
    (`fixed`) are of a size, which the class itself checks.
    """
    name = type(module).__name__
    known = models_with("denoiser", name)
    defaults = constructor_defaults(type(module))
    near = _nearest(defaults, config, known)
    # It fits together or not at all.
    lent = _agreed(([getattr(spec.denoiser, name) for name in LENT], spec.latent) for spec in near)
    if lent is None:
        part = {"class_name": name, "config": config, "dtype": "bf16", "subfolder": ""}
        found = describe_denoiser(module, part)
        return replace(found, default=found.default or _picture(found.latent, config))
    like, assumed = near[0], lent[1]
    assert like.denoiser is not None
    whole = defaults | config
    patch = own_patch(like.denoiser.patch, defaults | like.denoiser.config, whole)
    update: Config = {
        "config": config, "parameters": None, "subfolder": "", "fixed": (), "patch": patch,
        "multiple_of": pixel_multiple(name, whole, assumed.spatial_compression, patch),
        "guidance": _agreed(spec.denoiser.guidance for spec in near if spec.denoiser) or "none",
    }  # fmt: skip
    # The text's length, a size, is lent only where no model of the class has another.
    text = like.text and replace(like.text, length=_agreed(s.text.length for s in known if s.text))
    return ModelSpec(
        id=name, name=name, contract=assumed, default=_picture(assumed, config), vae=None, text=text,
        denoiser=replace(like.denoiser, **update), unknown={"vae": "a denoiser alone"},
        sources={"": f"its config; latents and inputs as catalog model {like.id}, of the same class"},
    )  # fmt: skip


def _nearest(defaults: Config, config: Config, known: list[ModelSpec]) -> list[ModelSpec]:
    """The denoisers whose config differs least: several, where it says nothing that tells them apart."""
    ours = defaults | config

    def differences(spec: ModelSpec) -> int:
        theirs = defaults | (spec.denoiser.config if spec.denoiser else {})
        return sum(theirs.get(key) != ours.get(key) for key in theirs.keys() | ours.keys())

    least = min(map(differences, known), default=0)
    return [spec for spec in known if differences(spec) == least]


def _agreed(values: Iterable[Any]) -> Any:
    """The one value that all share; None where there are none or they differ."""
    first, *others = [*values] or [None]
    return first if all(other == first for other in others) else None


def _picture(contract: LatentContract, config: Config, scale: int | None = None) -> Size | None:
    """The size of a picture by the config's `sample_size`: pixels of an autoencoder, positions of a denoiser's latents."""
    side = config.get("sample_size")
    if contract.frame_rule != "image" or type(side) is not int:
        return None
    side *= scale or contract.spatial_compression
    return Size(height=side, width=side)
