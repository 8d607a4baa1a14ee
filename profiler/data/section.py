"""A section of a file as a frozen dataclass. What is here says how pydantic checks one, and imports no pydantic."""

import hashlib
import json
from typing import Annotated, Any, ClassVar


def key_of(field: str) -> str:
    """What a file calls a field: `class` is a word of Python, and `ModelSpec.latent` raises where none is published."""
    return {"class_name": "class", "contract": "latent"}.get(field, field)


class Section:
    """A dataclass that a file may hold: pydantic refuses a misspelt key."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "alias_generator": key_of}


def digest_of(description: Any) -> str:
    """Twelve hex digits over what sections say, in their order: in that order components and inputs are made."""
    return hashlib.sha256(json.dumps(description).encode()).hexdigest()[:12]


class Limit:
    """What pydantic checks of an annotated value beside its type, by its own names: `gt`, `le`, `pattern`, `min_length`."""

    def __init__(self, **limits: Any) -> None:
        self.limits = limits

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> dict[str, Any]:
        return dict(handler(source) | self.limits)


PositiveInt = Annotated[int, Limit(gt=0)]
