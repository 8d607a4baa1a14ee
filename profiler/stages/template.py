"""Input templates: what a forward wants, written in a model file, made into tensors for one workload.

A tensor is `{shape: [B, C, T, H, W], dtype: ..., fill: ...}`; a plain value is `{value: ...}`; a list of equal items is
`{repeat: B, of: ...}`; tensors joined along an axis are `{join: [...], dim: 1}`; lists become tuples and other mappings
dicts. Entries of a shape, and text in a value, are sums and products of symbols and integers:

    B batch   T latent frames of one forward   H, W latent height and width   C latent channels   N tokens
    L text length   V tokens of it that the prompt fills   F pixel frames
    and any integer of the component's config (or its class's default) by its name

`dtype` is `fp32 fp16 bf16 int64 bool complex64`, by default the workload's; without `fill` the values are random normal.
`padding: [V, L]` is for a mask: its entries from V to L on the last axis are 0. A template that has V is of a pipeline that
pads its text to a fixed length L; in another, L is the prompt's own length, where one is given.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch

from profiler.data.workload import Workload
from profiler.errors import UserError
from profiler.models.build import TORCH_DTYPES, component_class, constructor_defaults
from profiler.models.spec import ModelSpec

_OPERATORS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
_DTYPES: dict[str, torch.dtype] = dict(TORCH_DTYPES, int64=torch.int64, bool=torch.bool, complex64=torch.complex64)


def symbols(spec: ModelSpec, workload: Workload) -> dict[str, int]:
    """The symbols of one workload, config integers first so that the letters win."""
    *_, height, width = spec.latent.shape(workload.batch, workload)
    component = spec.component(workload.stage)
    config = constructor_defaults(component_class(component.class_name)) | component.config
    published, given = (spec.text.length if spec.text else None) or 0, workload.text_length or 0
    is_padded = spec.reads(workload.stage, "V")
    length = max(published, given) if is_padded else given or published
    return {
        **{name: value for name, value in config.items() if type(value) is int},
        "B": workload.batch,
        "T": spec.denoiser_frames(workload.frames),
        "H": height,
        "W": width,
        "C": spec.latent.channels,
        "N": spec.tokens(workload),
        "L": length,
        "V": given or length,
        "F": workload.frames,
    }


def fill_template(template: Any, values: Mapping[str, int], dtype: torch.dtype, device: torch.device) -> Any:
    """Tensors and values for `template`. Raises UserError for a symbol or form that is unknown."""

    def fill(entry: Any) -> Any:
        match entry:
            case list():
                return tuple(fill(item) for item in entry)
            case {"shape": shape}:
                return _tensor([evaluate(size, values) for size in shape], entry, values, dtype, device)
            case {"value": value}:
                return _value(value, values)
            case {"repeat": count, "of": item}:
                return [fill(item) for _ in range(evaluate(count, values))]
            case {"join": parts, "dim": dim}:
                return torch.cat([fill(part) for part in parts], dim=dim)
            case {}:
                return {name: fill(item) for name, item in entry.items()}
        raise UserError(f"input template: expected a tensor, a value, a list or a mapping, got {entry!r}")

    return fill(template)


def _tensor(
    shape: list[int], entry: Mapping[str, Any], values: Mapping[str, int], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    if "dtype" in entry:
        if entry["dtype"] not in _DTYPES:
            raise UserError(f"input template: no dtype {entry['dtype']!r}; one of {', '.join(_DTYPES)}")
        dtype = _DTYPES[entry["dtype"]]
    if "fill" not in entry and dtype.is_floating_point:
        return torch.randn(shape, dtype=dtype, device=device)
    tensor = torch.full(shape, _value(entry.get("fill", 0), values), dtype=dtype, device=device)
    first, last = (evaluate(place, values) for place in entry.get("padding", (0, 0)))
    if first < last:
        tensor[..., first:last].fill_(0)  # in place: a mask is one tensor
    return tensor


def _value(entry: Any, values: Mapping[str, int]) -> Any:
    if isinstance(entry, str):
        return evaluate(entry, values)
    return [_value(item, values) for item in entry] if isinstance(entry, list) else entry


def evaluate(expression: int | str, values: Mapping[str, int]) -> int:
    """The integer that `expression` stands for: integers, symbols, `+ - * //` and parentheses."""
    if isinstance(expression, int):
        return expression

    def visit(node: ast.AST) -> int:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.Name):
            if node.id not in values:
                raise UserError(f"input template: no symbol '{node.id}'; known: {', '.join(sorted(values))}")
            return values[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](visit(node.left), visit(node.right))
        raise UserError(f"input template: cannot read '{expression}'; only integers, symbols, + - * // and parentheses")

    try:
        return visit(ast.parse(expression, mode="eval").body)
    except SyntaxError as error:
        raise UserError(f"input template: cannot read '{expression}'") from error
