"""Finds a pipeline: a catalog id, a diffusers folder with a model_index.json, a hub id. Reads configs, no weights."""

# ruff: noqa: PTH110, PTH112 - of a name too long to be a file's, os.path says that there is none; pathlib raises
import inspect
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from profiler.errors import LatentmeterError, UserError
from profiler.files.load import from_dict, read_json
from profiler.models.catalog import models_with
from profiler.models.find import HUB_ID, name_of
from profiler.models.not_here import check_no_single_file, fetched
from profiler.models.pipeline_spec import (
    UNPUBLISHED,
    Part,
    PipelineSpec,
    catalog_pipeline,
    not_described,
    parts,
    pipeline_ids,
)
from profiler.models.spec import Size
from profiler.models.tokenizer import Tokenizer

SETTINGS = ("Tokenizer", "Processor", "Extractor")  # classes that read their folder, not a config
ALIKE = ("dtype", "dtypes", "call", "pictures", "masks", "guidance")
CONFIGS = ("config.json", "scheduler_config.json", "guider_config.json")
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model")
NOT_WEIGHTS = ("*.json", "*.txt", "*.model", "*.jinja")
Parameters = Mapping[str, inspect.Parameter]


def find_pipeline(name: str) -> PipelineSpec:
    """The pipeline that `name` means. Raises UserError, saying what to do, for what is none."""
    name = name_of(name)
    if name in pipeline_ids():
        return catalog_pipeline(name)
    check_no_single_file(name)
    if os.path.isdir(name):
        return _read(name, Path(name))
    if HUB_ID.fullmatch(name) and not os.path.exists(name):
        return _read(name, fetched(name, NOT_WEIGHTS, tuple(pipeline_ids())))
    raise not_described(name)


def _read(name: str, folder: Path) -> PipelineSpec:
    """The pipeline in `folder`. Dtypes and how it is called are those of a catalog pipeline of its class, where one is."""
    from profiler.models.folder import library_and_class
    from profiler.models.pipeline import pipeline_class  # both need torch

    if not (folder / "model_index.json").exists():
        raise UserError(f"{name}: no model_index.json, which says its pipeline; one component has stages of its own")
    index = read_json(folder / "model_index.json")
    class_name = index.get("_class_name")
    if not isinstance(class_name, str):
        raise UserError(f"{name}: model_index.json: `_class_name` must name a class, got {str(class_name)[:60]!r}")
    components: dict[str, Part | Tokenizer | None] = {}
    settings: dict[str, Any] = {}
    for key, value in index.items():
        if isinstance(value, list) and not key.startswith("_"):
            named = library_and_class(name, index, key)
            components[key] = _component(name, folder / key, *named) if named else None
        elif not key.startswith("_"):
            settings[key] = value
    known = next((spec for spec in map(catalog_pipeline, pipeline_ids()) if spec.class_name == class_name), None)
    taken = inspect.signature(pipeline_class(class_name).__call__).parameters
    like = {name: getattr(known, name) for name in ALIKE} if known else _call(class_name, taken)
    own = {
        "id": folder.resolve().name if folder == Path(name) else name, "class": class_name, "origin": name,
        "components": components, "settings": settings,
        "size": _size(folder, taken, known.default if known else _of_their_models(components)),
    }  # fmt: skip
    return from_dict(PipelineSpec, own | like)


def _of_their_models(components: Mapping[str, Part | Tokenizer | None]) -> Size | None:
    """The published size of a catalog model whose denoiser, or else whose VAE, is of the same class."""
    for key, part in (("transformer", "denoiser"), ("unet", "denoiser"), ("vae", "vae")):
        named = components.get(key)
        alike = models_with(part, named.class_name) if isinstance(named, Part) else []
        if found := next((spec.default for spec in alike if spec.default), None):
            return found
    return None


def _size(folder: Path, taken: Parameters, published: Size | None) -> Size:
    """What the pipeline makes unasked: by its call, by its configs, or what is published of its class or its models'."""
    from profiler.models.folder import read_folder  # needs torch

    size = published or UNPUBLISHED
    with suppress(LatentmeterError):  # a VAE that none can describe: its pipeline runs all the same
        size = read_folder(str(folder)).default or size
    sides = (("frames", "num_frames"), ("height", "height"), ("width", "width"))
    says = {side: taken[name].default for side, name in sides if name in taken}
    return replace(size, **{side: value for side, value in says.items() if isinstance(value, int)})


def _component(name: str, folder: Path, library: str, class_name: str) -> Part | Tokenizer:
    if any(word in class_name for word in SETTINGS):
        if "Tokenizer" in class_name and not any(next(folder.glob(file), None) for file in VOCABULARIES):
            return _stand_in(name, class_name)
        return Part(class_name=class_name, library=library, folder=str(folder))
    file = next((folder / file for file in CONFIGS if (folder / file).exists()), None)
    if file is None:
        raise UserError(f"{name}: no {folder.name}/config.json, which model_index.json names {class_name}")
    config = {key: value for key, value in read_json(file).items() if not key.startswith("_")}
    # transformers ties a head to the embedding by the config, unless the checkpoint has both
    weights = folder / "model.safetensors.index.json"
    if weights.exists() and "lm_head.weight" in read_json(weights).get("weight_map", ()):
        config["tie_word_embeddings"] = False
    return Part(class_name=class_name, library=library, config=config)


def _stand_in(name: str, class_name: str) -> Tokenizer:
    """The catalog's tokenizer of this class, for a folder without its vocabulary. ByT5's is the bytes."""
    for part in parts().values():
        if isinstance(part, Tokenizer) and part.tokenizer.removesuffix("Fast") == class_name.removesuffix("Fast"):
            return part
    raise UserError(f"{name}: the files of its {class_name} are not there ({', '.join(VOCABULARIES)})")


def _call(class_name: str, taken: Parameters) -> dict[str, Any]:
    """How a pipeline is called of which the catalog has none: pictures where it asks for them."""
    asks = any(word in class_name for word in ("Img2Img", "ImageToVideo", "ImageToImage", "Inpaint", "Control", "Edit"))
    wanted = {name for name, parameter in taken.items() if asks or parameter.default is parameter.empty}
    return {
        "pictures": [name for name in ("image", "control_image") if name in wanted],
        "masks": [name for name in ("mask_image",) if name in wanted],
    }
