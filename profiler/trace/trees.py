"""Arguments and results of a call as flat lists, in which plain values and tensors can be compared and made again."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import torch

from profiler.trace.attributes import PLAIN, Unrepeatable
from profiler.trace.observer import dtype_name
from profiler.trace.tracing import Tracing


class Nest(NamedTuple):
    """A tuple, list or dict, or an output of transformers or diffusers, whose items have names: they follow."""

    kind: type
    names: tuple[Any, ...]


class View(NamedTuple):
    """A tensor: its block, and where it lies there, in elements. `content`: a number for its values, if they are known."""

    block: int
    offset: int
    dtype: torch.dtype
    device: torch.device
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    content: int | None

    @property
    def span(self) -> int:
        """How many elements lie from the first of its block to its own last."""
        return self.offset + 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))


class Tree:
    """Nested tuples, lists and dicts, flat: each as a `Nest`, then its items, tensors as `View`. It holds no tensor."""

    def __init__(self, story: Tracing, value: Any) -> None:
        self.items: list[Any] = []
        self.places: list[tuple[Any, Any]] = []  # what holds an item, and its index or name there
        self.open: set[int] = set()  # where a call may put something else: in a list or dict that is itself an argument
        self.views: dict[int, int] = {}  # of a block: where in `items` it first stands
        with story.unobserved():
            self._read(story, value, None, None, False)

    def key(self) -> Hashable:
        """Equal where plain values are equal, tensors look alike and share blocks alike.

        Raises Unrepeatable where two that may be replaced lie in one block.
        """
        return tuple([self._look(p, i) if type(i) is View else (type(i), i) for p, i in enumerate(self.items)])

    def _look(self, place: int, view: View) -> Hashable:
        first = self.views[view.block]
        if place != first and not self.open.isdisjoint((place, first)):
            raise Unrepeatable
        return (*view[2:-1], view.content is None, first, view.offset - self.items[first].offset)

    def _read(self, story: Tracing, value: Any, holder: Any, name: Any, is_open: bool) -> None:
        if is_open:
            self.open.add(len(self.items))
        self.places.append((holder, name))
        if type(value) in (tuple, list, dict) or (isinstance(value, OrderedDict) and hasattr(value, "to_tuple")):
            if type(value) is not tuple and any(value is other for other, _ in self.places):
                raise Unrepeatable  # a list or dict in two places
            items = value if isinstance(value, dict) else dict(enumerate(value))
            self.items.append(Nest(type(value), tuple(items)))
            for inner, item in items.items():
                self._read(story, item, value, inner, type(value) is not tuple and type(holder) is tuple)
        elif isinstance(value, torch.Tensor):
            block, content = story.number_of(value), story.values.digest(value)
            is_odd = value.is_conj() or value.is_neg() or (content is None and not story.values.unknown([value]))
            if block is None or is_odd or dtype_name(value.dtype) != story.blocks[block].dtype:
                raise Unrepeatable
            if content is not None:
                story.values.name_source(value, block)
            self.views.setdefault(block, len(self.items))
            layout = (value.dtype, value.device, value.shape, value.stride())
            self.items.append(View(block, int(value.storage_offset()), *layout, content))
        elif type(value) in PLAIN:
            self.items.append(value)
        else:
            raise Unrepeatable


def nested(items: Iterator[Any]) -> Any:
    """What a `Tree` was read from."""
    item = next(items)
    if type(item) is not Nest:
        return item
    inner = {name: nested(items) for name in item.names}
    if item.kind in (tuple, list):
        return item.kind(inner.values())
    return inner if item.kind is dict else item.kind(**inner)
