"""Finds a model: a catalog id, a YAML file, a diffusers class, a component's config.json, a diffusers folder, a hub id."""

import difflib
import logging
from pathlib import Path

from profiler.errors import UserError
from profiler.models.attention import environment_backend
from profiler.models.catalog import catalog_model, model_ids, read_spec
from profiler.models.spec import ModelSpec

logger = logging.getLogger(__name__)


def find_model(name: str) -> ModelSpec:
    """The model that `name` means. Raises UserError that names the near misses."""
    environment_backend()  # one that diffusers does not know keeps it from being imported
    known = model_ids()
    if name in known:
        logger.info("model %s from the catalog, configs/models/%s.yaml", name, name)
        return catalog_model(name)
    path = Path(name)
    logger.info("model %s is not in the catalog: a file, a class, a folder or a hub id", name)
    if path.suffix in (".yaml", ".yml"):
        return read_spec(path).model_copy(update={"reference": name})
    if path.suffix == ".json" or (name.isidentifier() and name[0].isupper()):
        from profiler.models.component import read_class, read_config  # needs torch, as building a class does

        return read_config(path).model_copy(update={"reference": name}) if path.suffix else read_class(name)
    if path.is_dir() or name.count("/") == 1:
        from profiler.models.folder import read_folder

        return read_folder(name).model_copy(update={"reference": name})
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    raise UserError(
        f"no model '{name}': {hint}`latentmeter models` lists all {len(known)}; "
        "a YAML file, a diffusers class or component config.json, a diffusers folder or a hub id (owner/name) work too"
    )
