"""Calls that a trace has seen before: their allocations are copied instead of being traced again.

A denoiser is one block many times; a tiled VAE decodes tiles of a few shapes and blends them row by row. Memory depends on
shapes and not on values, so a call of an equal module with equal arguments allocates the same, in the same order. A call
is copied only where all its effects are known: what it made and kept lies in its result or in a list or dict that it was
given, what it let go was held there, and it assigned no module's attribute. Any other call is traced each time.
"""

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import isclass, isroutine
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from profiler.data.events import Block

if TYPE_CHECKING:
    from profiler.trace.trace import Trace

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size, torch.memory_format)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
OWN = frozenset(vars(nn.Module()))  # what nn.Module itself keeps


class Unrepeatable(Exception):
    """A call with an argument, a result or an effect that cannot be copied."""


@dataclass(frozen=True, slots=True)
class Same:
    """The argument tensor, list or dict with that position, itself."""

    position: int


@dataclass(frozen=True, slots=True)
class View:
    """A tensor on a storage: that of argument number `argument`, or one of `bytes` bytes, which the call's `block` holds.

    `offset` in elements, from the argument's own or from the start of the storage.
    """

    dtype: torch.dtype
    device: torch.device
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    argument: int | None
    block: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """What one call did. Numbers of blocks, events and ops count from its start; `released` maps events to storages."""

    blocks: list[Block]
    events: list[int]
    ops: list[tuple[str, str]]
    released: dict[int, int]
    routes: Counter[str]
    containers: dict[int, Any]
    result: Any


class Arguments:
    """An argument tree, read into a key: its tensors, lists and dicts, and their storages, in order of appearance."""

    def __init__(self, trace: "Trace") -> None:
        self.trace = trace
        self.objects: list[Any] = []
        self.storages: dict[int, int] = {}  # address: position of the first tensor on it
        self.blocks: dict[int, int] = {}  # block number: that position
        self._layouts: dict[int, tuple[torch.dtype, int]] = {}
        self._held: set[int] = set()
        self._seen: dict[int, Same] = {}

    def read(self, value: Any, *, held: bool = False) -> Hashable:
        """A hashable key. In a list or dict, which the call may change, it also says who else holds a tensor."""
        if isinstance(value, PLAIN):
            return (type(value), value)
        if type(value) is tuple:
            return tuple([self.read(item, held=held) for item in value])
        seen = self._seen.get(id(value))
        if seen is not None:
            return seen
        self._seen[id(value)] = Same(len(self.objects))
        if held:
            self._held.add(len(self.objects))
        self.objects.append(value)
        if isinstance(value, torch.Tensor):
            return self._tensor(value, held)
        if type(value) is list:
            return (list, *[self.read(item, held=True) for item in value])
        if type(value) is dict:
            return (dict, *[(name, self.read(item, held=True)) for name, item in value.items()])
        raise Unrepeatable

    def let_go(self) -> None:
        """Hold nothing that the call itself may drop."""
        for position in self._held:
            held = self.objects[position]
            self.objects[position] = weakref.ref(held) if isinstance(held, torch.Tensor) else lambda: None

    def same(self, value: Any) -> Same | None:
        """Which argument `value` is, if it is one."""
        seen = self._seen.get(id(value))
        if seen is not None and isinstance(value, torch.Tensor) and seen.position in self._held:
            return seen if self.objects[seen.position]() is value else None
        return seen

    def argument_of(self, view: torch.Tensor) -> tuple[int, int]:
        """The position of an argument tensor on the storage of `view`, and how far behind it `view` begins, in elements."""
        position = self.storages.get(view.untyped_storage()._cdata)
        if position is None or self._layouts[position][0] != view.dtype:
            raise Unrepeatable
        return position, int(view.storage_offset()) - self._layouts[position][1]

    def _tensor(self, tensor: torch.Tensor, held: bool) -> Hashable:
        if tensor.device.type != self.trace.device_type or tensor.is_conj() or tensor.is_neg():
            raise Unrepeatable  # the call may look at the values of a tensor that has some
        storage = tensor.untyped_storage()
        address = storage._cdata
        first = self.storages.setdefault(address, len(self.objects) - 1)
        offset = int(tensor.storage_offset())
        self._layouts[len(self.objects) - 1] = (tensor.dtype, offset)
        number = self.trace.number_of(tensor)
        if number is not None:
            self.blocks[number] = first
        holders = (sys.getrefcount(tensor), torch._C._storage_Use_Count(address)) if held else None
        # Where a view begins changes nothing, only how views of one storage lie to each other: all tiles are alike.
        layout = (tensor.dtype, tensor.shape, tensor.stride(), offset - self._layouts[first][1])
        return (
            type(tensor),
            first,
            number is None,
            storage.nbytes(),
            layout,
            holders,
            self.trace.values.digest(tensor),
        )


class Repeats:
    """The calls of one trace, by module and arguments."""

    def __init__(self, trace: "Trace") -> None:
        self.trace = trace
        self._calls: dict[Hashable, Call] = {}
        self._ops: dict[tuple[Call, str], int] = {}
        self._structures: dict[int, int] = {}
        self._numbers: dict[Hashable, int] = {}
        self._assignments = 0
        self._changeable = False

    @contextmanager
    def watching(self, root: nn.Module) -> Iterator[None]:
        """Notice assignments to modules, and take `root`'s blends of tiles as calls: diffusers names them `blend_*`."""
        assign = nn.Module.__setattr__

        def noted(module: nn.Module, name: str, value: Any) -> None:
            self._assignments += 1
            if id(module) in self._structures:
                self._structures.clear()
            assign(module, name, value)

        blends = {name: getattr(root, name) for name in dir(type(root)) if name.startswith("blend_")}
        vars(root).update({name: self._as_call(name, blend) for name, blend in blends.items()})
        nn.Module.__setattr__ = noted  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            nn.Module.__setattr__ = assign  # type: ignore[method-assign]
            for name in blends:
                del vars(root)[name]

    def _as_call(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.run(name, lambda: function(*args, **kwargs), (args, kwargs), "")

    def run_module(self, module: nn.Module, function: Callable[[], Any], arguments: Any, path: str) -> Any:
        """As `run`, for a call of `module`."""
        try:
            structure = self._structure(module)
        except Unrepeatable:
            return function()
        return self.run(structure, function, arguments, path)

    def run(self, subject: Hashable, function: Callable[[], Any], arguments: tuple[Any, ...], path: str) -> Any:
        """Call `function`, or copy what an equal call of `subject` with equal arguments did. Ops are named below `path`."""
        trace, given = self.trace, Arguments(self.trace)
        try:
            args, kwargs = arguments
            names, values = tuple(kwargs), tuple(kwargs.values())
            key = (subject, given.read(args), names, given.read(values), trace.state)
        except Unrepeatable:
            return function()
        if key in self._calls:
            return self._copy(self._calls[key], given, path)
        given.let_go()
        start = (len(trace.blocks), len(trace.events))
        state, routes, assignments = trace.state, Counter(trace.routes), self._assignments
        result = function()
        if (trace.state, self._assignments) == (state, assignments):
            try:
                call = self._describe_call(start, given, arguments, result, path, trace.routes - routes)
            except Unrepeatable:
                return result
            self._calls[key] = call
        return result

    def _describe_call(
        self,
        start: tuple[int, int],
        given: Arguments,
        arguments: Any,
        result: Any,
        path: str,
        routes: Counter[str],
    ) -> Call:
        trace, (first, begin) = self.trace, start
        events, released = [], {}
        for index, event in enumerate(trace.events[begin:]):
            number = event if event >= 0 else ~event
            if number < first:
                if number not in given.blocks:
                    raise Unrepeatable
                released[index] = given.blocks[number]
            events.append(event - first if event >= 0 else event + first)
        made: set[int] = set()
        containers = {
            same.position: self._plan(_items(container), given, first, made)
            for container in _containers(arguments)
            if (same := given.same(container))
        }
        plan = self._plan(result, given, first, made)
        if made != {block.number for block in trace.blocks[first:] if block.died is None}:
            raise Unrepeatable
        ops = {op: index for index, op in enumerate(sorted({block.op for block in trace.blocks[first:]}))}
        names = [trace.ops[op] for op in ops]
        if not all(name.startswith(path) for name, _ in names):
            raise Unrepeatable
        blocks = [_shifted(block, -first, -begin, ops[block.op]) for block in trace.blocks[first:]]
        suffixes = [(name[len(path) :], op) for name, op in names]
        return Call(blocks, events, suffixes, released, routes, containers, plan)

    def _plan(self, value: Any, given: Arguments, first: int, made: set[int]) -> Any:
        """`value` with tensors by description; the numbers of the storages that the call made go to `made`."""

        def describe(leaf: Any) -> Any:
            if isinstance(leaf, PLAIN):
                return leaf
            same = given.same(leaf)
            if same is not None:
                return same
            if not isinstance(leaf, torch.Tensor) or leaf.is_conj() or leaf.is_neg() or self.trace.values.knows(leaf):
                raise Unrepeatable
            storage, number = leaf.untyped_storage(), self.trace.number_of(leaf)
            layout = (leaf.dtype, leaf.device, leaf.shape, leaf.stride())
            if number is None or number < first:
                argument, offset = given.argument_of(leaf)
                return View(*layout, offset, argument)
            if storage.nbytes() % leaf.element_size():
                raise Unrepeatable
            made.add(number)
            return View(*layout, int(leaf.storage_offset()), None, number - first, storage.nbytes())

        return _rebuild(value, describe)

    def _copy(self, call: Call, given: Arguments, path: str) -> Any:
        """Write the call's allocations down again, and make its result without data."""
        trace = self.trace
        base, at = len(trace.blocks), len(trace.events)
        ops = self._ops.get((call, path))
        if ops is None:
            ops = self._ops[call, path] = len(trace.ops)
            trace.ops += [(path + suffix, op) for suffix, op in call.ops]
        trace.events += [n + base if n >= 0 else n - base for n in call.events]
        trace.blocks += [_shifted(block, base, at, block.op + ops) for block in call.blocks]
        for event, argument in call.released.items():
            trace.events[at + event] = ~trace.disown(given.objects[argument], at + event)
        trace.routes.update(call.routes)
        storages: dict[int, torch.Tensor] = {}

        def make(leaf: Any) -> Any:
            if isinstance(leaf, Same):
                return given.objects[leaf.position]
            if not isinstance(leaf, View):
                return leaf
            if leaf.argument is not None:
                source = given.objects[leaf.argument]
                return source.as_strided(leaf.shape, leaf.stride, source.storage_offset() + leaf.offset)
            if leaf.block in storages:
                source = storages[leaf.block]
            else:
                source = torch.empty(leaf.bytes // leaf.dtype.itemsize, dtype=leaf.dtype, device=leaf.device)
                storages[leaf.block] = source
                trace.adopt(source, base + leaf.block)
            return source.as_strided(leaf.shape, leaf.stride, leaf.offset)

        with trace.unobserved():
            for position, items in call.containers.items():
                container, fresh = given.objects[position], _rebuild(items, make)
                container.clear()
                container.update(fresh) if isinstance(container, dict) else container.extend(fresh)
            return _rebuild(call.result, make)

    def _structure(self, module: nn.Module) -> int:
        """A number that modules share which run the same ops on the same arguments."""
        number = self._structures.get(id(module))
        if number is None:
            outside, self._changeable = self._changeable, False
            self._structures[id(module)] = -1  # a child may know its parent
            try:
                description = self._describe_module(module)
            except Unrepeatable:
                del self._structures[id(module)]  # or every such module would be taken for the same
                raise
            number = self._numbers.setdefault(description, len(self._numbers))
            self._structures[id(module)] = number
            if self._changeable:
                del self._structures[id(module)]  # it has a list, say: looked at anew each time
            self._changeable |= outside
        return number

    def _describe_module(self, module: nn.Module) -> Hashable:
        values = vars(module)
        if "forward" in values or any(values[name] for name in HOOKS):
            raise Unrepeatable
        tensors = [
            (name, t if t is None else (t.shape, t.stride(), t.dtype, t.device.type))
            for part in (module._parameters, module._buffers)
            for name, t in part.items()
        ]
        children = [(name, child and self._structure(child)) for name, child in module._modules.items()]
        own = [(name, self._attribute(value)) for name, value in values.items() if name not in OWN]
        return (type(module), module.training, *tensors, *children, *own)

    def _attribute(self, value: Any) -> Hashable:
        """An attribute by value; a tensor or function by identity, as no other module shares it then."""
        if isinstance(value, PLAIN):
            return (type(value), value)
        if isinstance(value, nn.Module):
            return self._structure(value)
        if isinstance(value, tuple):
            return (type(value), *map(self._attribute, value))
        if isinstance(value, torch.Tensor) or isroutine(value) or isclass(value):
            return id(value)
        if isinstance(value, list):
            self._changeable = True
            return (type(value), *map(self._attribute, value))
        if isinstance(value, dict):
            self._changeable = bool(value) or self._changeable
            return (type(value), *((name, self._attribute(item)) for name, item in value.items()))
        if type(value).__module__.startswith("diffusers."):  # an attention processor
            return (type(value), self._attribute(vars(value)))
        raise Unrepeatable


def _rebuild(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """A copy of nested tuples, lists and dicts with each leaf replaced."""
    if type(value) in (tuple, list):
        return type(value)(_rebuild(item, leaf) for item in value)
    if type(value) is dict:
        return {name: _rebuild(item, leaf) for name, item in value.items()}
    return leaf(value)


def _containers(value: Any) -> Iterator[Any]:
    """The lists and dicts in nested tuples, lists and dicts."""
    if type(value) in (list, dict):
        yield value
    if type(value) in (tuple, list, dict):
        for item in value.values() if type(value) is dict else value:
            yield from _containers(item)


def _items(container: Any) -> Any:
    """The items behind one level, so that a container is not taken for the argument that it is."""
    return list(container) if isinstance(container, list) else dict(container)


def _shifted(block: Block, number: int, event: int, op: int) -> Block:
    died = None if block.died is None else block.died + event
    return Block(
        block.number + number, block.bytes, op, block.shape, block.dtype, block.term, block.phase,
        block.born + event, died, block.price,
    )  # fmt: skip
