"""A dataclass read back from what JSON kept of it."""

from functools import cache
from typing import Any


def from_dict(kind: Any, data: dict[str, Any]) -> Any:
    """Read `data` back into the dataclass `kind`, checking every type. Raises pydantic.ValidationError."""
    return _reader(kind).validate_python(data)


@cache  # to make one takes a hundred times as long as to read a record with it
def _reader(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
