"""What the verbs are asked by name: what belongs to options or a placement may stand alone."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from profiler.data.workload import History, MemoryOptions, Placement, Workload
from profiler.errors import UserError, check_kind

PARTS: dict[str, tuple[type[Any], str]] = {
    "options": (MemoryOptions, "MemoryOptions(tiling=True)"),
    "placement": (Placement, "Placement(offload='model')"),
}
OPTIONS = tuple(field.name for field in fields(MemoryOptions))
ALONE = (*OPTIONS, *(field.name for field in fields(Placement)))


def gathered(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with what stands alone put in its place: `tiling=True` in `options`, `offload="model"` in `placement`.

    None stands for what is not given. Raises UserError.
    """
    found = dict(given)
    for part, (kind, example) in PARTS.items():
        check_kind(part, found.get(part), kind, example)
        alone = {field.name: found.pop(field.name) for field in fields(kind) if field.name in found}
        if asked := {name: value for name, value in alone.items() if value is not None}:
            found[part] = replace(found.get(part) or kind(), **asked)
    return found


def fields_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` as fields of a `Workload`. Raises UserError for what it has not."""
    check_kind("history", given.get("history"), History, "History(sizes=((81, 480, 832),))")
    found = gathered(given)
    known = [field.name for field in fields(Workload) if field.name not in ("model", "stage")]
    for name in found:
        if name == "placement":
            raise UserError(
                "placement: goes with a whole generation; profiler.generate takes one, and answers for a stage"
            )
        if name not in known:
            alternatives = f"{', '.join(known)}, or a memory option: {', '.join(OPTIONS)}"
            raise UserError(f"{name}: a workload has nothing of this name; it has {alternatives}")
    return found
