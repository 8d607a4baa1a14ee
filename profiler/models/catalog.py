"""The catalog: `configs/models/*.yaml`, one file a model, each checked as it is read."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from profiler.errors import UserError
from profiler.models.spec import ModelSpec
from profiler.paths import CONFIGS


@cache
def catalog() -> dict[str, ModelSpec]:
    """Every model of the catalog, by id, in the order of the ids."""
    specs = [read_spec(path) for path in sorted((CONFIGS / "models").glob("*.yaml"))]
    return {spec.id: spec for spec in specs}


def read_spec(path: Path) -> ModelSpec:
    """Read one model file. Raises UserError with every error of the file and its place."""
    data = read_yaml(path)
    try:
        return ModelSpec.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: not a model file\n{describe(error)}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError where it cannot be read or holds none."""
    try:
        data = yaml.safe_load(path.read_text())
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
