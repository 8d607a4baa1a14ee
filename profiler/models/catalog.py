"""The catalog: `configs/models/*.yaml`, one file a model, named by its id, each checked as it is read."""

from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from profiler.errors import UserError
from profiler.models.spec import ModelSpec
from profiler.paths import CONFIGS

Checked = TypeVar("Checked", bound=BaseModel)
MODELS = CONFIGS / "models"
# libyaml, where PyYAML was built with it, reads eight times faster.
Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def model_ids() -> list[str]:
    """The ids of the catalog, in order. Reads no file."""
    return sorted(path.name.removesuffix(".yaml") for path in MODELS.glob("*.yaml"))


@cache
def catalog_model(model_id: str) -> ModelSpec:
    """One model of the catalog; reads its file alone."""
    return read_spec(MODELS / f"{model_id}.yaml")


def catalog() -> dict[str, ModelSpec]:
    """Every model of the catalog, by id, in the order of the ids."""
    return {model_id: catalog_model(model_id) for model_id in model_ids()}


def read_spec(path: Path) -> ModelSpec:
    """Read one model file. Raises UserError with every error of the file and its place."""
    return read_as(ModelSpec, path, "a model file")


def read_as(kind: type[Checked], path: Path, what: str) -> Checked:
    """The YAML file `path` as `kind`. Raises UserError that says it is not `what`, with every error and its place."""
    data = read_yaml(path)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: not {what}\n{describe(error)}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError where it cannot be read or holds none."""
    try:
        data = yaml.load(path.read_text(), Loader)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping at the top, found {type(data).__name__}")
    return data


def describe(error: ValidationError) -> str:
    """pydantic's errors, a line each: dotted place, then what is wrong."""
    return "\n".join(f"  {'.'.join(map(str, item['loc'])) or 'top'}: {item['msg']}" for item in error.errors())
