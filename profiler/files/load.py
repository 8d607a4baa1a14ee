"""Reads YAML and JSON files that a person wrote: every error at once, each with its place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from profiler.errors import UserError

Checked = TypeVar("Checked", bound=BaseModel)
# libyaml, where PyYAML was built with it, reads eight times faster.
Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_as(kind: type[Checked], path: Path, what: str) -> Checked:
    """The YAML file `path` as `kind`. Raises UserError that says it is not `what`, with every error and its place."""
    data = read_yaml(path)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: not {what}\n{describe(error)}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError where it cannot be read or holds none."""
    return _mapping(path, "YAML", lambda text: yaml.load(text, Loader))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises UserError where it cannot be read or holds none."""
    return _mapping(path, "JSON", json.loads)


def _mapping(path: Path, form: str, parse: Callable[[str], Any]) -> dict[str, Any]:
    try:
        data = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"{path}: not {form} that can be read: nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no JSON, or no UTF-8
        raise UserError(f"{path}: not {form}: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping at the top, found {type(data).__name__}")
    return data


def describe(error: ValidationError) -> str:
    """pydantic's errors, a line each: dotted place, then what is wrong."""
    return "\n".join(f"  {'.'.join(map(str, item['loc'])) or 'top'}: {item['msg']}" for item in error.errors())
