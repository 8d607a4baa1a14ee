"""Calls of ATen ops as plain data: written down while stages are traced, made again on a card or without data."""

import json
from collections.abc import Iterable, Iterator
from math import prod
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from profiler.trace.known_values import is_real
from profiler.trace.observer import dtype_name
from profiler.trace.trace import Trace
from profiler.trace.tracing import _signature

Call = list[Any]  # op, arguments, arguments by name


class OpTrace(Trace):
    """A trace that writes down each different call of an op that touches the device, in `calls`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: dict[Any, Call] = {}

    def execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        """As the trace does."""
        key = (func, _signature(args), tuple((name, _signature(value)) for name, value in kwargs.items()))
        if key not in self.calls and not _is_on_host(args, kwargs):
            self.calls[key] = [str(func), self._plain(args), self._plain(kwargs)]
        return super().execute(func, args, kwargs)

    def _plain(self, value: Any) -> Any:
        """As JSON has it; what it has not is a dict of one key. A tensor is shape, strides, dtype, whether on the host."""
        if isinstance(value, torch.Tensor):
            return {":tensor": [list(value.shape), list(value.stride()), dtype_name(value.dtype), is_real(value)]}
        if isinstance(value, dict):
            return {name: self._plain(item) for name, item in value.items()}
        if isinstance(value, (tuple, list)):
            return [self._plain(item) for item in value]
        if isinstance(value, torch.device):
            return {":device": "cpu" if value.type not in (self.device_type, "meta") else "cuda"}
        if isinstance(value, (torch.dtype, torch.memory_format, torch.layout)):
            return {":torch": str(value).removeprefix("torch.")}
        return value if isinstance(value, (bool, int, str, type(None))) else {":number": str(value)}


def _is_on_host(args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether nothing of a call is on the device."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    device = kwargs.get("device")
    return bool(tensors) and all(map(is_real, tensors)) and (device is None or device.type == "cpu")


def kind(call: Call) -> str:
    """Calls of one kind take the same way through a kernel, as far as one sees: op, dtypes, memory orders, small numbers."""
    return json.dumps([call[0], _kind(call[1]), _kind(call[2])])


def _kind(value: Any) -> Any:
    if isinstance(value, list):
        return [_kind(item) for item in value]
    if isinstance(value, dict):
        if ":tensor" in value:
            shape, stride, dtype, on_host = value[":tensor"]
            return [dtype, on_host, *memory_order(shape, stride)]
        return {name: _kind(item) for name, item in value.items() if name != ":number"}
    return value if isinstance(value, (bool, str, type(None))) or -8 < value < 8 else "n"


def memory_order(shape: list[int], stride: list[int]) -> tuple[list[int], bool]:
    """Dimensions from the slowest in memory to the fastest (-1 for one of size 1), and whether nothing lies between."""
    order = sorted(range(len(shape)), key=lambda dim: (-stride[dim], dim))
    span = 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    return [dim if shape[dim] != 1 else -1 for dim in order], span == prod(shape)


def size(call: Call) -> int:
    """Elements of all tensors that a call is given."""
    return sum(prod(shape) for shape, *_ in tensors(call))


def tensors(value: Any) -> Iterator[list[Any]]:
    """Every tensor in a call, as shape, strides, dtype, whether on the host."""
    if isinstance(value, dict) and ":tensor" in value:
        yield value[":tensor"]
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors(item)


def sampled(calls: Iterable[Call]) -> list[Call]:
    """Of each kind the smallest call and the two largest."""
    kinds: dict[str, dict[str, Call]] = {}
    for call in calls:
        kinds.setdefault(kind(call), {})[json.dumps(call)] = call
    ordered = [sorted(same.values(), key=lambda call: (size(call), json.dumps(call))) for same in kinds.values()]
    return [call for same in ordered for call in (same if len(same) < 4 else [same[0], *same[-2:]])]


def fewest(calls: Iterable[Call], most: int = 8) -> list[Call]:
    """At most so many calls of each op, of different memory orders: the smallest, the oddest, the largest."""
    ops: dict[str, list[Call]] = {}
    for call in sorted(calls, key=lambda call: (call[0], size(call), json.dumps(call))):
        ops.setdefault(call[0], []).append(call)
    chosen = []
    for same in ops.values():
        orders = {str([memory_order(*t[:2]) for t in tensors(call)]): call for call in reversed(same)}
        by_size = [*orders.values()][::-1]
        few = by_size[: most // 2 - 1]
        few += [call for call in sorted(by_size, key=oddity, reverse=True) if call not in few][: most // 2]
        chosen += few + [same[-1]] * (same[-1] not in few)
    return chosen


def oddity(call: Call) -> int:
    """Steps by which the tensors' dimensions are out of order, and one for each tensor with gaps or repeats."""
    orders = [memory_order(*t[:2]) for t in tensors(call)]
    return sum(sum(at != dim >= 0 for at, dim in enumerate(order)) + (not dense) for order, dense in orders)


def made(value: Any, device: str) -> Any:
    """An argument made again, its tensors on `device`: `cuda`, or `meta` for none of their data."""
    if isinstance(value, list):
        return [made(item, device) for item in value]
    if not isinstance(value, dict):
        return value
    name, content = next(iter(value.items()), ("", None))
    if not name.startswith(":"):
        return {name: made(item, device) for name, item in value.items()}
    if name == ":tensor":
        shape, stride, dtype, on_host = content
        return torch.empty_strided(shape, stride, dtype=getattr(torch, dtype), device="cpu" if on_host else device)
    if name == ":device":
        return torch.device(device if content == "cuda" else content)
    return getattr(torch, content) if name == ":torch" else complex(content) if "j" in content else float(content)


def function(call: Call) -> Any:
    """The op itself, of `aten.add.Tensor`."""
    namespace, name, overload = call[0].split(".")
    return getattr(getattr(getattr(torch.ops, namespace), name), overload)
