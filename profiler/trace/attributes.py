"""What the attributes of a module hold: whether a later call of it would find all as the first one did."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import partial
from inspect import isroutine
from itertools import chain, compress
from operator import is_
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from profiler.trace.known_values import true_device
from profiler.trace.tracing import Tracing

PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.memory_format})
# Whose objects are what their attributes are.
OWN = ("diffusers.", "transformers.", "peft.", "accelerate.", "profiler.trace.stand_in_cuda")


class Unrepeatable(Exception):
    """A call that depends on something, or does something, that cannot be copied."""


class Attributes:
    """What the attributes of a module hold, of the modules in it, its attention processors and hooks, one after the other.

    Two are equal where `found` is: those of one layer and of the next, whose weights are others of the same shapes.
    Nothing has to be read anew while the very same objects stand there as when they were kept, weights in the same blocks,
    which is after a call that left all as it was: before, keeping them could let a tensor outlive its module's use.
    """

    def __init__(self, story: Tracing, called: Any) -> None:
        self._story = story
        is_module = isinstance(called, nn.Module)
        self.views: list[Any] = [vars(called).values()] if is_module else []
        self._empty: list[Any] = []  # most of a module's dicts, as of hooks: not looked into, but to be so still
        self.found = (type(called) if is_module else called, _read_attributes(story, self.views, self._empty))
        self._hash = hash(self.found)

    def keep(self) -> "Attributes":
        """This, with the objects that stand there now: tensors by their blocks, as to hold one could keep a weight that an
        offload takes away."""
        there = [*chain.from_iterable(self.views)]
        self._is_tensor = [isinstance(value, torch.Tensor) for value in there]
        self._is_other = [not is_tensor for is_tensor in self._is_tensor]
        self._others = [*compress(there, self._is_other)]
        self._tensors = [*map(self._told_of, compress(there, self._is_tensor))]
        self._lengths = [*map(len, self.views)]
        return self

    def unchanged(self) -> bool:
        """Whether each dict, list and set holds the same objects as when they were kept, in the same blocks, as far as is
        known with the same content."""
        if any(self._empty) or [*map(len, self.views)] != self._lengths:
            return False
        there = [*chain.from_iterable(self.views)]
        tensors = [*compress(there, self._is_tensor)]
        return (
            all(map(is_, compress(there, self._is_other), self._others))
            and all(isinstance(value, torch.Tensor) for value in tensors)
            and [*map(self._told_of, tensors)] == self._tensors
        )

    def _told_of(self, tensor: torch.Tensor) -> tuple[int | None, int | None]:
        return self._story.number_of(tensor), self._story.values.digest(tensor)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Attributes) and self.found == other.found)


def _read_attributes(story: Tracing, todo: list[Any], empty: list[Any]) -> Hashable:
    """What the containers in `todo` hold; those that are found in them are added to it, or to `empty`."""
    found: list[Any] = []
    seen = set()
    weights: dict[Hashable, int] = {}
    prefixed: dict[int, dict[str, list[str]]] = {}
    for container in todo:
        found.append(len(container))
        for value in container:
            if type(value) in PLAIN:
                found.append(value)
            elif isinstance(value, (tuple, list, dict, set)):
                if not value:
                    found.append((type(value), 0))
                    empty.append(value)
                    continue
                found.append(tuple(value) if isinstance(value, dict) else type(value))
                if id(value) not in seen:  # each of accelerate's hooks has the weights of all
                    seen.add(id(value))
                    todo.append(value.values() if isinstance(value, dict) else value)
            elif isinstance(value, torch.Tensor):
                block = _weight(story, value)  # off the card two are one where they are one object: moved as one
                number = weights.setdefault(("object", id(value)) if block is None else block, len(weights))
                layout = value.dtype, value.device, value.shape, value.stride(), value.storage_offset()
                found.append((number, *layout, story.values.digest(value)))
            elif type(value).__name__ == "PrefixedDataset":  # accelerate's: of the weights of all, those of one module
                if id(value.dataset) not in prefixed:
                    prefixed[id(value.dataset)] = _by_prefix(value.dataset)
                todo.append(Named(value.dataset, prefixed[id(value.dataset)].get(value.prefix, [])))
            elif type(value).__name__ == "UserCpuOffloadHook":  # accelerate's: it asks where the model before this lies
                todo.append(next(m._parameters for m in value.model.modules() if m._parameters).values())
            elif isinstance(value, nn.Module) or (
                type(value).__module__.startswith(OWN) and hasattr(value, "__dict__")
            ):
                found.append(type(value))
                if id(value) not in seen:
                    seen.add(id(value))
                    is_hook = type(value).__name__ == "AlignDevicesHook"
                    todo.append(_without_scratch(value) if is_hook else vars(value).values())
            elif isinstance(value, partial):
                found.append(_code_of(value.func))
                todo.append(value.args)
            elif isinstance(value, MethodType):
                found.append(value.__func__)
                todo.append((value.__self__,))
            elif isroutine(value) or isinstance(value, (type, ModuleType, np.generic)):
                found.append(value)
            else:
                raise Unrepeatable
    return tuple(found)


class Named:
    """Some values of a mapping, by their names, as they are whenever they are asked for."""

    def __init__(self, every: Mapping[str, Any], names: list[str]) -> None:
        self._every, self._names = every, names

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Any]:
        return map(self._every.__getitem__, self._names)


def _without_scratch(hook: Any) -> Named:
    """What a hook of accelerate holds, less what it sets before each forward, and reads after that alone."""
    return Named(vars(hook), [name for name in vars(hook) if name not in ("input_device", "tied_pointers_to_remove")])


def _by_prefix(names: Iterable[str]) -> dict[str, list[str]]:
    """The names of weights by those of the modules that they are in: `blocks.0.` of `blocks.0.weight`."""
    found = defaultdict[str, list[str]](list)
    for name in names:
        found[name.removesuffix(name.rpartition(".")[2])].append(name)
    return found


def _code_of(function: Any) -> Any:
    """What says what a function does: accelerate makes one for each module, of the same code, that holds nothing."""
    holds = not isinstance(function, FunctionType) or function.__closure__ or function.__defaults__
    return function if holds else function.__code__


def _weight(story: Tracing, value: torch.Tensor) -> int | None:
    """The block of a weight; None where it waits off the card. Raises Unrepeatable for any other tensor."""
    block = story.number_of(value)
    waits = value.device.type in ("cpu", "meta") and true_device(value).type == "meta"
    if not (waits if block is None else story.blocks[block].term == "weights"):
        raise Unrepeatable
    return block
