"""A trace of two devices: which tensors without data lie on the card, which on the host.

Every one is a `meta` tensor to torch. Where its storage lies is known here, and while a trace runs `tensor.device` asks for
that. So a pipeline, and the hooks of diffusers and accelerate, move weights as they do on a machine that has the card;
within an operation torch sees `meta` throughout, as the rules do. Host tensors take no memory either.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from profiler.data.stack import Stack
from profiler.trace.known_values import aten, true_device
from profiler.trace.observer import COMPOSITE
from profiler.trace.stand_in_cuda import stand_in_cuda
from profiler.trace.trace import Trace

CARD, HOST, NOWHERE = torch.device("cuda", 0), torch.device("cpu"), torch.device("meta")
TO = frozenset({aten.to.device, aten.to.dtype, aten.to.dtype_layout, aten.to.other, aten.type_as.default})


class PlacedTrace(Trace):
    """A trace whose new storages lie where the operation puts them; only those on the card are blocks of it.

    `NOWHERE` is torch's own `meta` device, on which accelerate parks weights that it has taken away.
    """

    def __init__(self, stack: Stack, **rest: Any) -> None:
        super().__init__(stack, **rest)
        self._elsewhere: dict[int, tuple[torch.device, weakref.ref[Any]]] = {}  # all but those on the card
        self._within = False
        self._place = CARD

    def lay(self, tensor: torch.Tensor, place: torch.device) -> None:
        """Say that the storage of `tensor` lies at `place`, which is not the card."""
        key = tensor.untyped_storage()._cdata
        if key not in self._elsewhere:
            gone = self._elsewhere.pop
            self._elsewhere[key] = (place, weakref.ref(tensor.untyped_storage(), lambda _: gone(key, None)))

    def where(self, tensor: torch.Tensor) -> torch.device:
        """The device of `tensor`, as code outside of an operation sees it."""
        true = true_device(tensor)
        return self._place_of(tensor) if true.type == "meta" and not self._within else true

    @contextmanager
    def during(self, phase: str, term: str, module: nn.Module | None = None) -> Iterator[None]:
        """As the trace's, with torch's own questions and CUDA's functions answered for the two devices."""
        with ExitStack() as patches:
            for stand_in in stand_in_cuda(self):
                patches.enter_context(stand_in)
            patches.enter_context(super().during(phase, term, module))
            yield

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self._within, self._place
        kwargs = kwargs or {}
        try:
            self._place = self._place_for(args, kwargs)
            self._within = True
            if func in TO:
                return self._to(func, args, kwargs, asked=not before[0])
            if (device := kwargs.get("device")) is not None and device.type == "cuda":
                kwargs = kwargs | {"device": NOWHERE}
            return super().__torch_dispatch__(func, types, args, kwargs)
        finally:
            self._within, self._place = before

    def _track(self, tensor: torch.Tensor) -> None:
        if self._place == CARD:
            super()._track(tensor)
        elif tensor.untyped_storage()._cdata not in self._live:
            self.lay(tensor, self._place)

    def _place_of(self, tensor: torch.Tensor) -> torch.device:
        entry = self._elsewhere.get(tensor.untyped_storage()._cdata)
        return entry[0] if entry else CARD

    def _place_for(self, args: Any, kwargs: Any) -> torch.device:
        """Where an operation puts what it makes: on the device asked for, else with its tensors, else with its caller's."""
        device = kwargs.get("device")
        if device is not None and device.type != "meta":
            return CARD if device.type == "cuda" else HOST
        place = None
        for leaf in _tensors(args):
            if true_device(leaf).type == "meta":
                place = self._place_of(leaf)
                if place == CARD:
                    return CARD
        if place is not None:
            return place
        return self._place if self._within else NOWHERE if device is not None else HOST

    def _to(self, func: Any, args: Any, kwargs: Any, asked: bool) -> Any:
        """`x.to(...)`: to torch's eyes a move between card and host is none, so where it leads is read here."""
        named = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        x, other = named["self"], named.get("other")
        own = self._place_of(x) if x.device.type == "meta" else HOST
        device, dtype = named.get("device"), named.get("dtype")
        if other is not None:
            device, dtype = self._place_of(other) if other.device.type == "meta" else HOST, other.dtype
        elif device is not None and device.type == "meta" and not asked:
            device = None  # of a tensor's own options, read by torch within an operation
        dtype = x.dtype if dtype is None else dtype
        layout = named.get("memory_format")
        with self:
            if device is not None and device.type != own.type:
                return self._move(x, own, device, dtype, layout)
            return aten.to.dtype._op_dk(COMPOSITE, x, dtype, copy=named.get("copy", False), memory_format=layout)

    def _move(self, x: torch.Tensor, own: torch.device, to: torch.device, dtype: torch.dtype, layout: Any) -> Any:
        """A copy of `x` on another device: its content if that is known, else a tensor without data there."""
        if own == NOWHERE:
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")
        if x.device == HOST or (to == HOST and not self.values.unknown([x])):
            return aten._to_copy.default(x, dtype=dtype, device=to, memory_format=layout)
        self._place = CARD if to.type == "cuda" else to
        self.ops.append((self._path[-1], "aten._to_copy.default"))
        with torch.utils._python_dispatch._disable_current_modes():
            result = torch.empty_like(x, dtype=dtype, device=NOWHERE, memory_format=layout or torch.preserve_format)
        self.track(result)
        return result


def _tensors(args: Any) -> Iterator[torch.Tensor]:
    for value in args:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)
