"""Finds a model: a catalog id, a YAML file, a diffusers class, a component's config.json, a diffusers folder, a hub id."""

# ruff: noqa: PTH110, PTH112 - of a name too long to be a file's, os.path says that there is none; pathlib raises
import logging
import os
import re
from dataclasses import replace
from pathlib import Path

from profiler.data.text import did_you_mean
from profiler.errors import UserError
from profiler.files.load import read_json
from profiler.models.attention import environment_backend
from profiler.models.catalog import catalog_model, model_ids, read_spec, titles
from profiler.models.not_here import check_no_single_file
from profiler.models.spec import ModelSpec

logger = logging.getLogger(__name__)

HUB_ID = re.compile(r"(\w[\w.-]{0,95})/(\w[\w.-]{0,95})", re.ASCII)
CLASS = re.compile(r"(?=.*[a-z])[A-Z]\w*[A-Z]\w*", re.ASCII)  # FLUX and Flux are models that somebody calls so


def name_of(model: object) -> str:
    """A name or a folder as text. Raises UserError, saying what to do, for a model or a pipeline itself."""
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model)
    raise UserError(
        f"model: expected a name or a folder, got a {type(model).__name__}: profiler.estimate_call answers for an object, "
        "and the folder that its save_pretrained writes is answered as a name is"
    )


def find_model(name: str) -> ModelSpec:
    """The model that `name` means. Raises UserError that names the near misses."""
    name = name_of(name)
    environment_backend()  # one that diffusers does not know keeps it from being imported
    known = model_ids()
    if name in known:
        logger.info("model %s from the catalog, configs/models/%s.yaml", name, name)
        return catalog_model(name)
    path = Path(name)
    logger.info("model %s is not in the catalog: a file, a class, a folder or a hub id", name)
    if path.suffix in (".yaml", ".yml"):
        return replace(read_spec(path), reference=name)
    if path.suffix == ".json":
        from profiler.models.component import read_component  # needs torch, as building a class does

        return replace(read_component(read_json(path), path), reference=name)
    if CLASS.fullmatch(name):
        from profiler.models.component import read_class

        return read_class(name)
    if os.path.isdir(name) or (HUB_ID.fullmatch(name) and not os.path.exists(name)):
        from profiler.models.folder import read_folder

        return replace(read_folder(name), reference=name)
    check_no_single_file(name)
    raise UserError(_what_it_is_not(name, known))


def _what_it_is_not(name: str, known: list[str]) -> str:
    """Why `name` is no model, and what could be one."""
    shown = name if len(name) <= 80 else f"{name[:80]}..."
    hint = did_you_mean(name, known, titles())
    if os.path.exists(name):
        hint = "it is a file, but no .yaml and no .json. "
    elif "/" in name:
        hint = "there is no such folder. "
    return (
        f"no model '{shown}': {hint}`latentmeter models` lists all {len(known)}; "
        "a YAML file, a diffusers class or component config.json, a diffusers folder or a hub id (owner/name) work too"
    )
