"""Reads a model from a diffusers folder on disk, or from a hub id: its configs now, its weights when it is measured.

A folder says what the components are, not how a pipeline feeds them: each component is described as one alone is.
"""

from pathlib import Path
from typing import Any

from profiler.errors import UserError
from profiler.files.load import read_json
from profiler.models.component import read_component
from profiler.models.spec import ModelSpec

DENOISERS = ("transformer", "unet")


def read_folder(name: str) -> ModelSpec:
    """The model in folder or hub repository `name`. Raises UserError for a missing file or a VAE that none can describe."""
    index = _read(name, "model_index.json")
    if "vae" not in index:
        raise UserError(f"{name}: model_index.json names no 'vae'")
    found = read_component(index["vae"][1], _read(name, "vae/config.json"))
    assert found.vae is not None
    update: dict[str, Any] = {
        "id": Path(name).name,
        "name": name,
        "default": None,
        "vae": found.vae.model_copy(update={"subfolder": "vae"}),
        "origin": name,
        "sources": {f"vae: {key}".rstrip(": "): text for key, text in found.sources.items()},
    }
    folder = next((key for key in DENOISERS if index.get(key, [None, None])[1]), None)
    if folder is None:
        return found.model_copy(update=update | {"unknown": {"denoiser": "model_index.json names none"}})
    try:
        other = read_component(index[folder][1], _read(name, f"{folder}/config.json"))
    except UserError as error:
        return found.model_copy(update=update | {"unknown": {"denoiser": str(error)}})
    assert other.denoiser is not None
    multiple = other.denoiser.multiple_of // other.latent.spatial_compression * found.latent.spatial_compression
    update |= {
        "denoiser": other.denoiser.model_copy(update={"subfolder": folder, "multiple_of": multiple}),
        "text": other.text,
        "unknown": {},
        "sources": update["sources"] | {f"denoiser: {key}".rstrip(": "): text for key, text in other.sources.items()},
    }
    return found.model_copy(update=update)


def _read(name: str, file: str) -> dict[str, Any]:
    if not Path(name).is_dir():
        return read_json(_download(name, file))
    if not Path(name, file).exists():
        raise UserError(f"{name}: no {file}; a diffusers folder holds model_index.json and a folder for each component")
    return read_json(Path(name, file))


def _download(name: str, file: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.hf_hub_download(name, file))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"{name}: no such catalog model or folder, and the hub gave no {file}: {error}") from error
