"""Values beside tensors without data, for models that ask: `mask.sum().item()`, `if mask.any()`, `x[mask]`, `.tolist()`.

What such models ask for follows from their inputs (masks, positions, lengths), hardly ever from weights. So a small tensor
whose content is known has a shadow: a CPU storage of the same bytes. Views share it as they share the storage, and an op
whose tensors are all known runs on the shadows too. An unknown mask that is asked for counts as all valid, the worst case
for memory, and unknown scores choose evenly; the estimate says so. Another unknown number ends the trace.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._python_dispatch import _disable_current_modes

aten = torch.ops.aten
CPU = torch.device("cpu")
# Torch's own answer: a trace of two devices gives code outside of operations another.
true_device = torch._C.TensorBase.device.__get__
# Bytes of a shadow: a mask of a million tokens fits. Computed floats are positions and embeddings, which nobody asks for;
# computed numbers that are whole and fill more than a mebibyte are tables of distances between tokens, as nobody does.
LIMIT, NUMBERS_LIMIT, FLOAT_LIMIT = 4 << 20, 1 << 20, 64 << 10
# The content of their results does not depend on that of their first argument.
_LIKE = frozenset({"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"})


class Values:
    """The known contents of one trace, by storage.

    `masks` lists where an unknown mask was read, `choices` where a top-k of unknown scores was taken: module path and op.
    """

    def __init__(self) -> None:
        self.masks: list[str] = []
        self.choices: list[str] = []
        self.read: frozenset[int] = frozenset()  # the sources of what decided something, or was written over
        self._sources: dict[int, frozenset[int]] = {}  # by storage: what its content was computed from
        self._latest: frozenset[int] = frozenset()  # the sources of what was computed last
        self._shadows: dict[int, torch.UntypedStorage] = {}
        self._kinds: dict[Any, str] = {}

    def unknown(self, values: Iterable[Any]) -> list[torch.Tensor]:
        """The first tensor in `values` whose content is not known, if there is one."""
        for value in values:
            if isinstance(value, torch.Tensor):
                if value.untyped_storage()._cdata not in self._shadows and value.numel() and not is_real(value):
                    return [value]
            elif isinstance(value, (tuple, list)) and (found := self.unknown(value)):
                return found
        return []

    def knows(self, tensor: torch.Tensor) -> bool:
        """Whether the content of `tensor` is known."""
        return tensor.untyped_storage()._cdata in self._shadows

    def digest(self, tensor: torch.Tensor) -> int | None:
        """A number for the values of `tensor`, by which a model may decide; None if they are not known."""
        if not self.knows(tensor):
            return None
        with _disable_current_modes():  # a trace would follow each of these operations
            content = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(self._contents(tensor).flatten())
            return hash(content.view(torch.uint8).numpy().tobytes())

    def name_source(self, tensor: torch.Tensor, name: int) -> None:
        """From now on `read` has `name` where something is decided by the content of `tensor`, or by what comes of it."""
        key = tensor.untyped_storage()._cdata
        self._sources[key] = self._sources.get(key, frozenset()) | {name}

    def decide(self, func: Any, args: Any, kwargs: Any) -> Any:
        """`func` on contents, for an answer by which code may decide."""
        result = self.compute(func, args, kwargs)
        self.read |= self._latest
        return result

    def compute(self, func: Any, args: Any, kwargs: Any) -> Any:
        """`func` on the contents of its arguments, which are known."""
        self._latest = frozenset()
        with unset_fake_temporarily():
            return func(*self._contents(args), **{name: self._contents(value) for name, value in kwargs.items()})

    def follow(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Do to the shadows what `func` did to the tensors. Called after every op: the common case ends early."""
        kind = self._kinds.get(func)
        if kind is None:
            kind = self._kinds[func] = _kind(func)
        if kind == "view":
            return
        if kind == "like":
            args = (_blank(args[0]), *args[1:])
        if kind == "scramble" or self.unknown(args) or self.unknown(kwargs.values()):
            if kind in ("write", "scramble"):
                self._forget_written(func, args, kwargs)
        elif kind == "write":
            self.decide(func, args, kwargs)
        elif _is_small(result, args):
            # 0.5 stands for every number of `randn`: like them it is neither 0 nor 1, which padding and masks are made of.
            how = (func, args, kwargs) if kind != "random" else (torch.tensor, (0.5,), {})
            try:
                self.know(result, self.compute(*how))
            except RuntimeError as error:  # the host has no such kernel for 16 bit: nothing is known of it then
                if not isinstance(error, NotImplementedError) and "not implemented for" not in str(error):  # torch 2.6
                    raise

    def know(self, result: Any, content: Any) -> None:
        """Give each new tensor of `result` its `content`."""
        if isinstance(result, (tuple, list)):
            for item, its in zip(result, content, strict=True):
                self.know(item, its)
        elif isinstance(result, torch.Tensor) and not is_real(result):
            storage = result.untyped_storage()
            if storage.nbytes() and storage._cdata not in self._shadows:
                with unset_fake_temporarily():
                    self._shadows[storage._cdata] = torch.UntypedStorage(storage.nbytes(), device="cpu")
                    self._sources[storage._cdata] = self._latest
                    self._contents(result).copy_(content)

    def forget(self, key: int) -> None:
        """The storage died, or now holds what is not known."""
        self._shadows.pop(key, None)
        self._sources.pop(key, None)

    def _contents(self, value: Any) -> Any:
        """`value` with every tensor replaced by its content, and every device by the CPU."""
        if isinstance(value, (tuple, list)):
            return type(value)(self._contents(item) for item in value)
        if isinstance(value, torch.device):
            return CPU
        if not isinstance(value, torch.Tensor) or is_real(value):
            return value
        key = value.untyped_storage()._cdata
        shadow = self._shadows.get(key)
        self._latest |= self._sources.get(key, frozenset())
        if shadow is None:  # no elements
            return torch.empty(value.shape, dtype=value.dtype)
        content = torch.empty(0, dtype=value.dtype)
        content.set_(shadow, value.storage_offset(), value.shape, value.stride())
        return content.conj() if value.is_conj() else content

    def _forget_written(self, func: Any, args: Any, kwargs: Any) -> None:
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                written = args[position] if position < len(args) else kwargs.get(argument.name)
                for tensor in _flat([written]):
                    if isinstance(tensor, torch.Tensor):
                        self.forget(tensor.untyped_storage()._cdata)


def _kind(func: Any) -> str:
    """What an op does to contents.

    `view` tells nothing new, `write` changes an argument, `scramble` fills one with random numbers, `random` makes random
    numbers (`randn`), `like` takes only the shape of its first argument (`zeros_like`), `function` computes from all.
    """
    random = torch.Tag.nondeterministic_seeded in func.tags
    if func._schema.is_mutable:
        return "scramble" if random else "write"
    if func is aten.randn.default:
        return "random"
    if func is aten.lift_fresh.default:  # a fake tensor of a real one
        return "function"
    if random or any(r.alias_info is not None for r in func._schema.returns):
        # A view's content is known with its storage. Of random functions besides `randn`, such as dropout, nothing is.
        return "view"
    return "like" if func._schema.name.removeprefix("aten::") in _LIKE else "function"


def is_real(tensor: torch.Tensor) -> bool:
    """Whether the tensor has data of its own: a model's own, on the host."""
    return true_device(tensor).type == "cpu" and not isinstance(tensor, FakeTensor)


def _is_small(result: Any, args: Any) -> bool:
    if isinstance(result, torch.Tensor):
        computed = result.dtype != torch.bool and any(isinstance(value, torch.Tensor) for value in _flat(args))
        limit = FLOAT_LIMIT if result.is_floating_point() else NUMBERS_LIMIT
        return result.untyped_storage().nbytes() <= (limit if computed else LIMIT)
    return isinstance(result, (tuple, list)) and all(_is_small(item, args) for item in result)


def _flat(args: Any) -> Iterator[Any]:
    for value in args:
        yield from value if isinstance(value, (tuple, list)) else (value,)


def _blank(like: torch.Tensor) -> torch.Tensor:
    """A tensor of the same shape on the CPU that takes no memory to speak of."""
    with unset_fake_temporarily():
        return torch.empty((), dtype=like.dtype, device="cpu").expand(like.shape) if like.numel() else like
