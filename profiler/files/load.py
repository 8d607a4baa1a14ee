"""Reads YAML and JSON, a person's or this program's own: what is wrong becomes one kind of message, with its place.

A person's file is plain data (text, numbers, lists, mappings) of a bounded size, so that none stops the program or fills its
memory: not one that never ends, not a few lines of aliases that stand for millions, not one nested without end.
"""

import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from gzip import GzipFile
from pathlib import Path
from types import NoneType
from typing import IO, Any, TypeVar, get_args, get_origin

import yaml

from profiler.data.section import key_of
from profiler.data.units import format_bytes
from profiler.errors import UserError

Kind = TypeVar("Kind")
# The longest file here has 10 KiB and 400 values; a config of diffusers has some hundred values, five levels deep.
MOST_BYTES, MOST_VALUES, MOST_LEVELS, MOST_BITS = 2 << 20, 100_000, 50, 64
# What PyYAML, Python's json and gzip raise for bytes that have no such value: `!!bool maybe`, `!!int ""`, 5,000 digits.
NO_SUCH_VALUE = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError, EOFError, zlib.error)
# pydantic's words for a section of a file are those that it has for its own models, also where it is a dataclass.
WORDS = {
    "unexpected_keyword_argument": "Extra inputs are not permitted",
    "dataclass_type": "Input should be a valid dictionary or instance of {class_name}",
}
# libyaml, where PyYAML was built with it, reads eight times faster.
_SAFE: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# YAML's plain values. A date is text, as in JSON, and so is `<<`: mappings that merge grow as aliases do.
_RESOLVERS = {
    first: [(tag, form) for tag, form in forms if not tag.endswith((":timestamp", ":value", ":merge"))]
    for first, forms in _SAFE.yaml_implicit_resolvers.items()
}


class Loader(_SAFE):  # type: ignore[misc,valid-type]
    """Reads plain values only, and no mapping that names a key twice: one of the two would count, without a word."""

    yaml_implicit_resolvers = _RESOLVERS

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping. Raises yaml.YAMLError, with its place, for a key that stands twice."""
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [name for name, count in names.items() if count > 1]:
            raise yaml.MarkedYAMLError(problem=f"key {twice[0]!r} stands twice", problem_mark=node.start_mark)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


class DamageError(UserError):
    """A file, or a piece of one, that is not what it should be."""


@contextmanager
def damage_told(place: object, what: str) -> Iterator[None]:
    """Whatever a reader raises within becomes DamageError: that `place` is not `what`, and why. Other UserErrors pass."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise DamageError(f"{place}: {error.strerror or f'not {what}: {error}'}") from error
    except NO_SUCH_VALUE as error:
        vague = isinstance(error, (LookupError, AttributeError, RecursionError))  # these do not say what is wrong
        text = f" a value that its tag or its depth forbids ({type(error).__name__}: {error})" if vague else f" {error}"
        if hasattr(error, "errors"):  # of pydantic, which tells each of them
            text = f"\n{describe(error)}"
        raise DamageError(f"{place}: not {what}:{text}") from error


def read_record(kind: type[Kind], text: bytes, place: str, what: str, newest: int) -> Kind:
    """The dataclass `kind` in JSON that this program wrote. Raises DamageError where it is not `what`.

    Raises UserError for a `schema` beyond `newest`.
    """
    with damage_told(place, what):
        data = json.loads(text, parse_float=_finite, parse_constant=_finite, object_hook=renamed)
        schema = data.get("schema") if isinstance(data, dict) else None
        if isinstance(schema, int) and schema > newest:
            raise UserError(
                f"{place}: written by a newer latentmeter (schema {schema}, this one reads {newest}): upgrade latentmeter"
            )
        return from_dict(kind, data)


def from_dict(kind: type[Kind], data: dict[str, Any]) -> Kind:
    """Read `data`, which JSON kept, back into the dataclass `kind`, checking every type. Raises pydantic.ValidationError."""
    return _reader(kind).validate_python(data)  # type: ignore[arg-type, no-any-return]


def to_dict(value: Any, **how: Any) -> Any:
    """The `data` of `from_dict`, by the names that a file has. `how` as pydantic's `dump_python` takes it."""
    return _reader(value.__class__).dump_python(value, by_alias=True, warnings=False, **how)


@cache
def _reader(kind: Any) -> Any:
    """To make one takes a hundred times as long as to read a record with it."""
    from pydantic import TypeAdapter  # here: an answer from a recording needs none

    return TypeAdapter(kind)


def built(kind: Any, data: Any) -> Any:
    """`data` as `from_dict` reads it, but unchecked. Raises KeyError or TypeError for keys that are unknown or missing."""
    if isinstance(data, list):
        return tuple(data) if get_origin(kind) is tuple else data
    section: Any = next((one for one in (kind, *get_args(kind)) if is_dataclass(one)), None)
    if section is None or not isinstance(data, dict):
        return data
    known = {key_of(field.name): field for field in fields(section)}
    return section(**{known[key].name: built(known[key].type, value) for key, value in data.items()})


def _finite(text: str) -> float:
    """The number; Python's JSON also knows NaN and Infinity, which compare with nothing."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number


def read_own(kind: type[Kind], path: Path, what: str) -> Kind:
    """`read_as` for a file of this package, of which the tests check every value: only keys that do not fit are told."""
    try:
        return built(kind, read_yaml(path))  # type: ignore[no-any-return]
    except (KeyError, TypeError):
        return read_as(kind, path, what)


def read_as(kind: type[Kind], path: Path, what: str) -> Kind:
    """The YAML file `path` as `kind`. Raises UserError that says it is not `what`, with every error and its place."""
    data = read_yaml(path)
    with damage_told(path, what):
        return from_dict(kind, data)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError where it cannot be read or holds none."""
    return _mapping(path, "YAML", lambda text: yaml.load(text, Loader))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises UserError where it cannot be read or holds none."""
    return _mapping(path, "JSON", json.loads)


def _mapping(path: Path, form: str, parse: Callable[[str], Any]) -> dict[str, Any]:
    with damage_told(path, form):
        with path.open("rb") as stream:
            data = parse(read_bounded(stream, MOST_BYTES).decode())
        _check_plain(data)
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping at the top, found {type(data).__name__}")
    return data


def read_bounded(stream: IO[bytes] | GzipFile, most: int) -> bytes:
    """What the stream holds. Raises ValueError for more than `most` bytes."""
    data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError(f"more than {format_bytes(most)}")
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


def describe(error: Any) -> str:
    """pydantic's errors, a line each: dotted place, then what is wrong."""
    lines = []
    for item in error.errors():
        text = WORDS[item["type"]].format(**item.get("ctx", {})) if item["type"] in WORDS else item["msg"]
        lines.append(f"  {'.'.join(map(str, item['loc'])) or 'top'}: {text}")
    return "\n".join(lines)


def renamed(part: dict[str, Any]) -> dict[str, Any]:
    """An object of a record in today's names: packages besides torch were once asked for by `attention`."""
    backend = {"flash-attn": "flash", "sage": "sage", "xformers": "xformers"}.get(str(part.get("attention")))
    return part | {"attention": None, "attention_backend": backend} if backend else part
