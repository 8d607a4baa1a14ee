"""Calls that repeat: a tiled VAE runs its decoder once a tile, a denoiser a layer like the one before, and each allocates
what the one before it did.

Memory depends on shapes. So the first call of its kind is traced, and a later call of the same module, or of one that is
made alike, with arguments of the same shapes is copied: its births and deaths are written down again, under the module that
is called, and its results are made without data. Looked at is what the root itself calls: its children, such as `decoder`,
and its methods `blend_*`, by which diffusers joins tiles; a pipeline's coders and blends; and items of lists, the layers.
A call is copied only where all that it depends on and all that it does is known:

- arguments and results are plain values and tensors, or tuples, lists and dicts of these;
- what decided something in the first call has the content that it had there (a mask; of a timestep nobody asks);
- the attributes of the module, and of all in it, are those of the first call, which changed none of them; the weights may
  be others of the same shapes;
- what the first call made and left alive lies in its result, or in a list or dict that it was given (a cache of features);
- what it freed and had not made lay in such a list or dict; what it returns and had not made, in an argument;
- weights that hooks bring go again before it ends: where they stay, such a call is traced, and those after it are not.

Any other call is traced. The events are those of `Trace(..., repeats=False)`, which traces every call.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import nn

from profiler.data.events import Block
from profiler.trace.attributes import Attributes, Unrepeatable
from profiler.trace.tracing import Tracing
from profiler.trace.trees import Nest, Tree, View, nested

CODERS = ("encoder", "decoder")


class Call(NamedTuple):
    """What one call of the module at `path` did: the trace's events from `begin` to `end`, where blocks from `first` on
    are its own; before those of `emptied` the cache was. `remarks`: how many there are of it, which name the module."""

    path: str
    remarks: int
    first: int
    begin: int
    end: int
    emptied: frozenset[int]
    routes: Counter[str]
    before: list[Any]  # arguments
    after: list[Any]  # arguments, then the result
    views: dict[int, int]  # of arguments
    read: frozenset[int]  # the places of arguments whose content decided something

    def agrees(self, given: list[Any], path: str) -> bool:
        """Whether what decided something is in `given` as it was."""
        return (path == self.path or not self.remarks) and all(
            self.before[place].content == given[place].content for place in self.read
        )


class Repeats:
    """The calls of one trace, by what was called in which state with which arguments."""

    def __init__(self, story: Tracing) -> None:
        self.story = story
        self._calls: dict[Hashable, list[Call]] = {}
        self._looked: dict[Any, Attributes] = {}
        self._ops: dict[tuple[str, str], _Ops] = {}

    @contextmanager
    def blending(self, root: nn.Module) -> Iterator[None]:
        """Let calls of `blend_*` be copied too, the root's and its children's. They read nothing but their arguments."""
        own = [(one, name) for one in (root, *root.children()) for name in dir(type(one)) if name.startswith("blend_")]
        with ExitStack() as patches:
            for one, name in own:
                patches.enter_context(patch.object(one, name, self._as_call(getattr(one, name))))
            yield

    def _as_call(self, blend: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.run(blend, lambda: blend(*args, **kwargs), args, kwargs)

    def run(self, called: Any, function: Callable[[], Any], args: Any, kwargs: Any) -> Any:
        """Call `function`, which calls `called`, or copy what an equal call did."""
        story, arguments, path = self.story, (args, tuple(kwargs.items())), self.story.path
        key = None
        with suppress(Unrepeatable):  # whose traceback would hold tensors while the function runs
            given, state = Tree(story, arguments), (story.state, self._attributes(called))
            is_emptied = len(story.events) in story.cache_emptied_at  # then a call that begins so adds nothing
            key = (state, is_emptied, given.key())
        if key is None:
            return function()
        if call := next((call for call in self._calls.get(key, ()) if call.agrees(given.items, path)), None):
            story.values.read |= {given.items[place].block for place in call.read}
            if self._looked.get(called) is not state[1]:
                self._looked[called] = state[1].keep()  # a layer like another: at its next call it need not be read
            return self.copy(call, given, path)
        first, begin, routes, values = len(story.blocks), len(story.events), Counter(story.routes), story.values
        remarks, emptied = story.told, story.cache_emptied_at.copy()  # so far
        given.places.clear()  # what they hold is the call's to drop
        before, values.read = values.read, frozenset()
        result = function()
        read, values.read = values.read, values.read | before
        with suppress(Unrepeatable):
            after = Tree(story, (*arguments, result))
            unchanged = (story.state, self._attributes(called)) == state
            if unchanged and self._is_explained(given, after, first, begin):
                new = frozenset(story.cache_emptied_at - emptied)
                did = (path, story.told - remarks, first, begin, len(story.events), new, story.routes - routes)
                places = frozenset(p for p, i in enumerate(given.items) if type(i) is View and i.block in read)
                self._looked[called] = state[1].keep()
                self._calls.setdefault(key, []).append(Call(*did, given.items, after.items, given.views, places))
        return result

    def _attributes(self, called: Any) -> Attributes:
        known = self._looked.get(called)
        return known if known and known.unchanged() else Attributes(self.story, called)

    def _is_explained(self, given: Tree, after: Tree, first: int, begin: int) -> bool:
        """Whether the trees before and after say all that was done since block number `first` and event `begin`."""
        blocks, events = self.story.blocks, self.story.events
        alive = {block for block in (*given.views, *range(first, len(blocks))) if blocks[block].died is None}
        freed = {~event for event in events[begin:] if 0 <= ~event < first}
        changed = [p for p, (old, new) in enumerate(zip(given.items, after.items, strict=False)) if p and old != new]
        return (
            alive <= after.views.keys()
            and freed <= {block for block, position in given.views.items() if position in given.open}
            and {block for block in after.views if block < first} <= given.views.keys()
            and given.open.issuperset(changed)
            and not any(Nest in (type(given.items[p]), type(after.items[p])) for p in changed)
            and not any(item.content is not None for item in after.items if type(item) is View and item.block >= first)
        )

    def ops_of(self, call: Call, path: str) -> dict[int, int]:
        """The ops of the call's blocks, as those of the call at `path`."""
        return self._ops.setdefault((call.path, path), _Ops(self.story.ops, call.path, path))

    def copy(self, call: Call, given: Tree, path: str) -> Any:
        """Write the call's births and deaths down again, do to lists and dicts what it did, and make its result."""
        story, shift = self.story, len(self.story.blocks) - call.first
        ops = self.ops_of(call, path)
        owners = vars(story).get("owners", {})  # of a trace that is placed: whose weights a hook brings
        components = {call.path.split(".")[0]: path.split(".")[0]}
        sources: dict[int, torch.Tensor] = {}
        for block in {item.block for item in call.after if type(item) is View and item.block < call.first}:
            holder, name = given.places[call.views[block]]
            sources[block] = holder[name]
        blocks, events, phase = story.blocks, story.events, story.phase
        for at, event in enumerate(events[call.begin : call.end], call.begin):
            if at in call.emptied:
                story.cache_emptied_at.add(len(events))
            number = event if event >= 0 else ~event
            if number < call.first:
                holder, name = given.places[call.views[number]]
                holder[name] = None  # if nobody else has the tensor, its block dies here
            elif event < 0:
                story.release(number + shift)
            else:
                b = blocks[number]
                term = story.term if b.term == "outputs" else b.term  # nobody looks for those of a later call
                labels = (b.shape, b.dtype, term, phase)
                further = (b.price, b.queue, b.awaited)
                blocks.append(Block(number + shift, b.bytes, ops[b.op], *labels, len(events), None, *further))
                events.append(number + shift)
                if number in owners:
                    owners[number + shift] = components.get(owners[number], owners[number])
        if call.end in call.emptied:
            story.cache_emptied_at.add(len(story.events))
        story.routes.update(call.routes)

        def make(item: Any) -> Any:
            if type(item) is not View:
                return item
            if item.block not in sources:
                elements = story.blocks[item.block].bytes // item.dtype.itemsize
                is_whole = not item.offset and item.span == elements
                layout = (item.shape, item.stride) if is_whole else ((elements,), (1,))
                sources[item.block] = torch.empty_strided(*layout, dtype=item.dtype, device=item.device)
                story.adopt(sources[item.block], item.block + shift)
                if is_whole:
                    return sources[item.block]
            source = sources[item.block]
            before = call.before[call.views[item.block]].offset if item.block < call.first else 0
            return source.as_strided(item.shape, item.stride, source.storage_offset() + item.offset - before)

        with story.unobserved():
            for (holder, name), old, new in zip(given.places[1:], call.before[1:], call.after[1:], strict=False):
                if new != old:
                    holder[name] = make(new)
            return nested(map(make, call.after[len(call.before) :]))


def is_looked_at(module: nn.Module, path: str) -> bool:
    """Whether calls of a module are copied: a child of the root, the coder of a pipeline's VAE, or a layer of a list.

    A coder or layer with a hook is traced, for that may keep what it returns: transformers collects hidden states so
    (`utils/output_capturing.py`). A layer that diffusers offloads is like no other: its own function brings its weights.
    """
    name = path.rpartition(".")[2]
    if name == path:
        return True
    is_layer = name.isdigit() and bool(module._modules)
    return (is_layer or name in CODERS) and not any(
        part._forward_hooks or (is_layer and "_diffusers_hook" in vars(part)) for part in module.modules()
    )


class _Ops(dict[int, int]):
    """The ops of a call's blocks as those of the same call of another module: their numbers by the first call's."""

    def __init__(self, ops: list[tuple[str, str]], old: str, new: str) -> None:
        super().__init__()
        self._ops, self._old, self._new = ops, old, new

    def __missing__(self, op: int) -> int:
        path, name = self._ops[op] if op >= 0 else ("", "")
        self[op] = op
        if (there := as_called(path, self._old, self._new)) != path:
            self[op] = len(self._ops)
            self._ops.append((there, name))
        return self[op]


def as_called(path: str, old: str, new: str) -> str:
    """The path of a module in the module `old` as it is in its like `new`; one elsewhere stays."""
    return new + path.removeprefix(old) if f"{path}.".startswith(f"{old}.") else path
