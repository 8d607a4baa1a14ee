"""Reads a model from a diffusers folder on disk, or from a hub id: its configs now, its weights when it is measured.

A folder says what the components are, not how a pipeline feeds them. Layout, frame rule and input template are taken from
the catalog model that uses the same classes; sizes, channels and compression from the folder's own configs.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from profiler.errors import UserError
from profiler.models.catalog import catalog, describe
from profiler.models.spec import Component, Denoiser, LatentContract, ModelSpec

DENOISERS = ("transformer", "unet")
CHANNEL_KEYS = ("latent_channels", "z_dim")


def read_folder(name: str) -> ModelSpec:
    """The model in folder or hub repository `name`. Raises UserError where a file or a matching catalog entry is missing."""
    index = _read(name, "model_index.json")
    if "vae" not in index:
        raise UserError(f"{name}: model_index.json names no 'vae'")
    like = _catalog_entry("vae", index["vae"][1])
    if like is None:
        raise UserError(
            f"{name}: no catalog model uses {index['vae'][1]}; describe it in a YAML file (configs/models has examples)"
        )
    vae_config = _read(name, "vae/config.json")
    assert like.vae is not None
    vae = like.vae.model_copy(update={"config": _clean(vae_config), "parameters": None, "subfolder": "vae"})
    latent = _contract(vae, like)
    denoiser, text = _denoiser(name, index, latent, like)
    try:
        return ModelSpec(
            id=Path(name).name, name=name, latent=latent, vae=vae, denoiser=denoiser, text=text, origin=name,
            sources={"": f"{name}; layout, frame rule and inputs as catalog model {like.id}"},
        )  # fmt: skip
    except ValidationError as error:
        raise UserError(f"{name}: cannot be described\n{describe(error)}") from error


def _catalog_entry(kind: str, class_name: str) -> ModelSpec | None:
    for spec in catalog().values():
        component: Component | None = getattr(spec, kind)
        if component is not None and component.class_name == class_name:
            return spec
    return None


def _contract(vae: Component, like: ModelSpec) -> LatentContract:
    config = vae.config
    channels = next((config[key] for key in CHANNEL_KEYS if key in config), like.latent.channels)
    return like.latent.model_copy(
        update={
            "channels": channels,
            "spatial_compression": _compression(vae, "spatial") or like.latent.spatial_compression,
            "temporal_compression": _compression(vae, "temporal") or like.latent.temporal_compression,
        }
    )


def _compression(vae: Component, axis: str) -> int | None:
    """From the built class, which knows its own ratio; image autoencoders halve once between blocks."""
    from profiler.models.build import TORCH_DTYPES, build

    module = build(vae, TORCH_DTYPES[vae.dtype])
    ratio = getattr(module, f"{axis}_compression_ratio", None)
    if isinstance(ratio, int):
        return ratio
    blocks = vae.config.get("block_out_channels")
    return 2 ** (len(blocks) - 1) if axis == "spatial" and blocks else None


def _denoiser(
    name: str, index: dict[str, Any], latent: LatentContract, vae_like: ModelSpec
) -> tuple[Denoiser | None, Any]:
    folder = next((key for key in DENOISERS if index.get(key, [None, None])[1]), None)
    like = _catalog_entry("denoiser", index[folder][1]) if folder else None
    if folder is None or like is None or like.denoiser is None:
        return None, vae_like.text
    multiple = like.denoiser.multiple_of // like.latent.spatial_compression * latent.spatial_compression
    update = {
        "config": _clean(_read(name, f"{folder}/config.json")),
        "parameters": None,
        "subfolder": folder,
        "multiple_of": multiple,
    }
    return like.denoiser.model_copy(update=update), like.text


def _clean(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _read(name: str, file: str) -> dict[str, Any]:
    path = Path(name, file) if Path(name).is_dir() else _download(name, file)
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; a diffusers folder holds model_index.json and a folder a component"
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected an object")
    return data


def _download(name: str, file: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.hf_hub_download(name, file))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"{name}: no such catalog model or folder, and the hub gave no {file}: {error}") from error
