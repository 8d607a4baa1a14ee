"""Reads YAML and JSON files that a person wrote: every error at once, each with its place.

A file is plain data (text, numbers, lists, mappings) of a bounded size, so that none stops the program or fills its memory:
not one that never ends, not a few lines of aliases that stand for millions, not one nested without end.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from profiler.data.units import format_bytes
from profiler.errors import UserError

Checked = TypeVar("Checked", bound=BaseModel)
# The longest file here has 10 KiB and 400 values; a config of diffusers has some hundred values, five levels deep.
MOST_BYTES, MOST_VALUES, MOST_LEVELS, MOST_BITS = 2 << 20, 100_000, 50, 64
# What PyYAML and Python's json raise for text that has no such value: `!!bool maybe`, `!!int ""`, 5,000 digits.
NO_SUCH_VALUE = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
# libyaml, where PyYAML was built with it, reads eight times faster.
_SAFE: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# YAML's plain values. A date is text, as in JSON, and so is `<<`: mappings that merge grow as aliases do.
_RESOLVERS = {
    first: [(tag, form) for tag, form in forms if not tag.endswith((":timestamp", ":value", ":merge"))]
    for first, forms in _SAFE.yaml_implicit_resolvers.items()
}
Loader: type[yaml.SafeLoader] = type("Loader", (_SAFE,), {"yaml_implicit_resolvers": _RESOLVERS})


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
        with path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise ValueError(f"more than {format_bytes(MOST_BYTES)}")
        data = parse(raw.decode())
        _check_plain(data)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except NO_SUCH_VALUE as error:
        known = isinstance(error, (yaml.YAMLError, ValueError))  # these say what is wrong, and where
        text = error if known else f"a value that its tag or its depth forbids ({type(error).__name__}: {error})"
        raise UserError(f"{path}: not {form}: {text}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping at the top, found {type(data).__name__}")
    return data


def _check_plain(data: Any) -> None:
    """Raise ValueError for what cannot be written as JSON, and for more than a description holds, aliases counted."""
    level, count = [data], 1
    for _ in range(MOST_LEVELS):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += [*value, *value.values()]
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, str):
                value.encode()  # JSON may name half a character, which no file and no terminal takes
            elif isinstance(value, int) and value.bit_length() > MOST_BITS:
                raise ValueError(f"a number of more than {MOST_BITS} bits")
            elif not isinstance(value, (int, float, NoneType)):
                raise ValueError(f"a {type(value).__name__}; expected text, numbers, lists and mappings")
            if count + len(inner) > MOST_VALUES:
                raise ValueError(f"more than {MOST_VALUES:,} values, aliases counted each time")
        if not inner:
            return
        level, count = inner, count + len(inner)
    raise ValueError(f"nested more than {MOST_LEVELS} levels deep")


def describe(error: ValidationError) -> str:
    """pydantic's errors, a line each: dotted place, then what is wrong."""
    return "\n".join(f"  {'.'.join(map(str, item['loc'])) or 'top'}: {item['msg']}" for item in error.errors())
