"""Reads a model from a diffusers folder on disk, or from a hub id: its configs now, its weights when it is measured.

A folder says what the components are, not how a pipeline feeds them: each component is described as one alone is. A folder
of one component, which holds a config.json and no model_index.json, is a model too.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from profiler.errors import UserError
from profiler.files.load import read_json
from profiler.models.catalog import model_ids
from profiler.models.component import read_component
from profiler.models.not_here import fetched
from profiler.models.spec import ModelSpec, Size

DENOISERS = ("transformer", "unet")
CONFIGS = ("*config.json", "model_index.json")


def read_folder(name: str) -> ModelSpec:
    """The model in folder or hub repository `name`. Raises UserError for a missing file or a VAE that none can describe."""
    path = Path(name)
    if not (path / "model_index.json").exists() and (path / "config.json").exists():
        return replace(read_component(_read(name, "config.json"), path / "config.json"), origin=name)
    index = _read(name, "model_index.json")
    found = _component(name, index, "vae")
    if found is None:
        raise UserError(f"{name}: model_index.json names no 'vae'")
    if found.vae is None:
        raise UserError(f"{name}: model_index.json: 'vae' is {found.id}, which is no autoencoder")
    update: dict[str, Any] = {
        "id": path.resolve().name,
        "name": name,
        "vae": replace(found.vae, subfolder="vae"),
        "origin": name,
        "sources": {f"vae: {key}".rstrip(": "): text for key, text in found.sources.items()},
    }
    folder = next((key for key in DENOISERS if library_and_class(name, index, key)), DENOISERS[0])
    try:
        other = _component(name, index, folder)
    except UserError as error:
        return replace(found, **update, unknown={"denoiser": str(error)})
    if other is None or other.denoiser is None:
        return replace(found, **update, unknown={"denoiser": "model_index.json names none"})
    multiple = other.denoiser.multiple_of // other.latent.spatial_compression * found.latent.spatial_compression
    # A VAE of single pictures beside a denoiser of clips codes the frames as rows, so any number goes.
    rows = found.latent.frame_rule == "image" and other.latent.frame_rule != "image"
    update |= {
        "contract": replace(found.latent, frame_rule="any") if rows else found.latent,
        "default": _default(found, other),
        "denoiser": replace(other.denoiser, subfolder=folder, multiple_of=multiple),
        "text": other.text,
        "unknown": {},
        "sources": update["sources"] | {f"denoiser: {key}".rstrip(": "): text for key, text in other.sources.items()},
    }
    return replace(found, **update)


def _component(name: str, index: dict[str, Any], part: str) -> ModelSpec | None:
    """The model's component `part` alone; None where model_index.json names none."""
    if (named := library_and_class(name, index, part)) is None:
        return None
    return read_component(_read(name, f"{part}/config.json"), Path(name, part, "config.json"), named[1])


def library_and_class(name: str, index: dict[str, Any], part: str) -> tuple[str, str] | None:
    """What model_index.json names for a part; None where it names nothing. Raises UserError for another form."""
    match index.get(part):
        case None | [None, *_]:
            return None
        case [str(library), str(class_name)]:
            return library, class_name
        case other:
            raise UserError(
                f'{name}: model_index.json: \'{part}\' must be ["library", "class"], got {str(other)[:60]!r}'
            )


def _default(vae: ModelSpec, denoiser: ModelSpec) -> Size | None:
    """A picture's size as pipelines take it: the denoiser's `sample_size`, in positions of the latents, else the VAE's."""
    if denoiser.latent.frame_rule != "image":
        return None
    if denoiser.default is None:
        return vae.default
    ours, assumed = vae.latent.spatial_compression, denoiser.latent.spatial_compression
    return Size(height=denoiser.default.height // assumed * ours, width=denoiser.default.width // assumed * ours)


def _read(name: str, file: str) -> dict[str, Any]:
    folder = Path(name) if Path(name).is_dir() else fetched(name, CONFIGS, tuple(model_ids()))
    if not (folder / file).exists():
        raise UserError(
            f"{name}: no {file}; a diffusers folder holds model_index.json and a folder for each component, and a "
            "component's folder holds config.json"
        )
    return read_json(folder / file)
