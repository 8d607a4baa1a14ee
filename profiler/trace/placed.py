"""A trace of two devices: which tensors without data lie on the card, which on the host.

Every one is a `meta` tensor to torch. Where its storage lies is known here, and while a trace runs `tensor.device` asks for
that. So a pipeline, and the hooks of diffusers and accelerate, move weights as they do on a machine that has the card;
within an operation torch sees `meta` throughout, as the rules do. Host tensors take no memory either.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.library import _scoped_library
from torch.utils._python_dispatch import _disable_current_modes

from profiler.allocator.host import Host
from profiler.allocator.settings import settings_of
from profiler.data.stack import Stack
from profiler.stages.phases import Runnable
from profiler.trace.crossing import BETWEEN, INDEXED, TO, Places, passes_as_copy, tensors_in
from profiler.trace.known_values import LIMIT, aten, is_real, true_device
from profiler.trace.module_moves import at_once
from profiler.trace.observer import COMPOSITE
from profiler.trace.parts import PartsTrace
from profiler.trace.rules.values import read
from profiler.trace.stand_in_cuda import stand_in_cuda

CARD, HOST, NOWHERE = torch.device("cuda", 0), torch.device("cpu"), torch.device("meta")
READ_NUMBER, SCALAR = aten._local_scalar_dense.default, aten.scalar_tensor.default  # the number of `x[at] = number`
TOLD = {aten.nonzero.default: 4, aten._linalg_check_errors.default: 1}  # bytes: a count (Nonzero.cu), a flag
BY_MASK = INDEXED | {aten.masked_select.default}
LAID = (aten.empty_like.default, aten.clone.default)  # by which a load makes weights of the host: here without data


class PlacedTrace(PartsTrace):
    """A trace whose new storages lie where an operation puts them; those on the card are its blocks.

    `NOWHERE` is torch's own `meta` device, on which accelerate parks weights that it has taken away. `owners` says
    whose weights a block has, `host` what lies on the host; `queue` is the current stream. `thresholds` lists where a
    single number of a checkpoint was read, which is taken as 0.
    """

    def __init__(self, stack: Stack, **rest: Any) -> None:
        super().__init__(stack, **rest)
        self._module = nn.Module()
        self.owners: dict[int, str] = {}
        self.host = Host(settings_of(stack))
        self.queue = 0
        self.thresholds: list[str] = []
        self._places = Places(self.host, lambda key: self.values.forget(key))
        self._within = False
        self._place = CARD

    @property
    def device(self) -> torch.device:
        """Where everything is made: on the card."""
        return CARD

    @property
    def on_device(self) -> bool:
        """Whether the operation that runs now puts its result on the card."""
        return self._place == CARD

    def where(self, tensor: torch.Tensor) -> torch.device:
        """The device of `tensor`, as code outside of an operation sees it."""
        true = true_device(tensor)
        while torch._C._functorch.is_batchedtensor(tensor):  # within `vmap`, as transformers makes some masks
            tensor = torch._C._functorch.get_unwrapped(tensor)
        return true if self._within or true.type != "meta" else self._place_of(tensor)

    def pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        """A pinned copy on the host."""
        copy = self._copy_of(tensor)
        self._places.lay(copy, HOST, is_pinned=True)
        return copy

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Whether the storage is pinned memory of the host."""
        return (place := self._places.of(tensor)) is not None and place.is_pinned

    def record_stream(self, tensor: torch.Tensor, queue: int) -> None:
        """Another stream uses the block: once freed, it waits for that stream."""
        if (number := self.number_of(tensor)) is not None and self.blocks[number].queue != queue:
            self.blocks[number].awaited = True

    @contextmanager
    def during(self, phase: str, term: str, module: nn.Module | None = None) -> Iterator[None]:
        """As the trace's. Autograd is left out: without gradients it does nothing but take fused operations apart."""
        below = torch._C._AutoDispatchBelowAutograd()
        moves = patch.object(nn.Module, "to", at_once(nn.Module.to, self.move))
        with _scoped_library("aten", "IMPL") as numbers, stand_in_cuda(self), torch.no_grad(), below, moves:
            # `torch.Tensor([x, y])` of tensors on the card reads each of them where no mode hears of it.
            with patch.object(torch.library, "_impls", set()):  # torch's own is there, and 2.6 has no `allow_override`
                numbers.impl(READ_NUMBER, self._read_number, "Meta")
            with super().during(phase, term, module):
                yield

    def loaded(self, run: Runnable) -> None:
        """As the trace's; whose weights the card holds, and who is to tell of a pipeline's parts."""
        super().loaded(run)
        self._module = run.module
        self._note_owners()
        vars(run)["heard"] = self.part

    def answered(self, output: Any) -> None:
        """As the trace's. At its end a call may bring back what is never offloaded."""
        super().answered(output)
        self._note_owners()

    def _note_owners(self) -> None:
        for name, tensor in [*self._module.named_parameters(), *self._module.named_buffers()]:
            if (number := self.number_of(tensor)) is not None:
                self.owners.setdefault(number, name.split(".")[0])

    def allocate(self, size: int, shape: tuple[int, ...], dtype: str, term: str) -> int:
        """Open a block in the pool of the current stream."""
        number = super().allocate(size, shape, dtype, term)
        self.blocks[number].queue = self.queue
        return number

    def is_on_host(self, tensor: torch.Tensor) -> bool:
        """As the trace's, of tensors without data too. A list by which is indexed becomes a tensor that nobody has noted."""
        return super().is_on_host(tensor) or self._place_of(tensor) != CARD

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self._within, self._place
        kwargs = kwargs or {}
        try:
            self._place = self._place_for(func, args, kwargs)
            self._within = True
            if func in TO:
                return self._to(func, args, kwargs, asked=not before[0])
            if self._place == HOST and self.term == "weights" and func in LAID:
                result = self._copy_of(args[0])
                self._track(result)
                if func is not aten.clone.default:
                    self.values.forget(result.untyped_storage()._cdata)
                return result
            self._pin_what_is_told(func, args)
            number = self.number_of(args[0]) if func is READ_NUMBER and not self.values.knows(args[0]) else None
            if number is not None and self.blocks[number].term == "weights":
                self.thresholds.append(self._path[-1])
                return 0.0
            if self._place == CARD and "device" in kwargs:
                kwargs = kwargs | {"device": NOWHERE}
            return super().__torch_dispatch__(func, types, args, kwargs)
        finally:
            self._within, self._place = before

    def move(self, x: torch.Tensor, to: torch.device) -> torch.Tensor:
        """What `x.to(to)` gives outside of any operation and mode: `x` itself where it is there."""
        if is_real(x) or self.values.knows(x):
            with self:
                return torch.Tensor.to(x, to)
        if (own := self._place_of(x)).type == to.type:
            return x
        before, self._within = (self._within, self._place), True
        try:
            with self._as_weight(x):
                moved: torch.Tensor = self._move(x, own, to, x.dtype, None)
                return moved
        finally:
            self._within, self._place = before

    def _read_number(self, x: torch.Tensor) -> Any:
        self._pin_what_is_told(READ_NUMBER, (x,))
        return read(self, READ_NUMBER, (x,), {})

    def _pin_what_is_told(self, func: Any, args: Any) -> None:
        """A number comes to the host through a pinned block (CUDAScalar.cu), and so does what some ops tell (`TOLD`)."""
        size = args[0].element_size() if func is READ_NUMBER else TOLD.get(func, 0)
        if size:
            told = [args[0]]
        elif func in BY_MASK:
            told = [x for x in tensors_in(args[1:]) if x.dtype in (torch.bool, torch.uint8)]
            size = 4 * bool(told)
        if size and any(self._place_of(x) == CARD for x in told if not is_real(x)):
            self.host.take(size, pinned=True)
            self.host.give_back(size, pinned=True)

    def _track(self, tensor: torch.Tensor) -> None:
        if self._places.of(tensor):
            return
        if self._place == CARD:
            super()._track(tensor)
        elif self.number_of(tensor) is None:
            self._places.lay(tensor, self._place)

    def _place_of(self, tensor: torch.Tensor) -> torch.device:
        if place := self._places.of(tensor):
            return place.device
        storage = tensor.untyped_storage()
        return CARD if storage._cdata in self._live or not storage.nbytes() else NOWHERE  # made before the trace

    def _place_for(self, func: Any, args: Any, kwargs: Any) -> torch.device:
        """Where an operation puts what it makes: on the device asked for, else with its tensors, else with its caller's.

        Raises RuntimeError for tensors of two devices, as torch does: a weight that a placement forgot to bring, say.
        """
        device = kwargs.get("device")
        if device is not None and (device.type != "meta" or func is SCALAR):
            return HOST if device.type == "cpu" else CARD
        tensors = [*tensors_in(args)]
        places = {self._place_of(x): x.dim() for x in tensors if true_device(x).type == "meta"}
        if CARD in places and any(x.dim() and is_real(x) for x in tensors):
            places[HOST] = 1  # dimensions, or more: one that was given with data, as a mask of a prompt
        if len(places) > 1 and all(places.values()) and func not in BETWEEN:
            found = " and ".join(map(str, places))
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found {found}")
        if places:
            return CARD if CARD in places else next(iter(places))
        return self._place if self._within else NOWHERE if device is not None else HOST

    def _to(self, func: Any, args: Any, kwargs: Any, asked: bool) -> Any:
        """`x.to(...)`: to torch a move between card and host is none, so where it leads is read here.

        Within an operation a device that is `meta` was not `asked` for: it is that of a tensor's own options.
        """
        given = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        x, other = given["self"], given.get("other")
        own = self._place_of(x) if x.device.type == "meta" else HOST
        device, dtype = given.get("device"), given.get("dtype") or x.dtype
        if other is not None:
            device, dtype = self._place_of(other) if other.device.type == "meta" else HOST, other.dtype
        elif device is not None and device.type == "meta" and not asked:
            device = None
        layout = given.get("memory_format")
        is_there = dtype == x.dtype and (device is None or device.type == own.type)
        if is_there and not given.get("copy") and layout in (None, torch.preserve_format):
            return x  # as `at::to` does; a pipeline that is placed asks it of each of its weights, again and again
        with self, self._as_weight(x) if asked else nullcontext():
            if device is not None and device.type != own.type:
                return self._move(x, own, device, dtype, layout)
            return aten.to.dtype._op_dk(COMPOSITE, x, dtype, copy=given.get("copy", False), memory_format=layout)

    @contextmanager
    def _as_weight(self, x: torch.Tensor) -> Iterator[None]:
        """What a pipeline itself makes of a weight on the card, as by `vae.to(dtype)`, is one, of the same component."""
        number, before = self.number_of(x), len(self.blocks)
        if number is None or self.blocks[number].term != "weights" or self._parts:  # a component casts them to compute
            yield
            return
        term, self.term = self.term, "weights"
        try:
            yield
        finally:
            self.term = term
            self.owners |= {block.number: self.owners.get(number, "") for block in self.blocks[before:]}

    def _move(self, x: torch.Tensor, own: torch.device, to: torch.device, dtype: torch.dtype, layout: Any) -> Any:
        """A copy of `x` on another device: its content if that is known, else a tensor without data there."""
        if own == NOWHERE:
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")
        number = self.number_of(x)
        is_weight = own == HOST if number is None else self.blocks[number].term == "weights"
        is_asked_for = to == HOST and not is_weight and (x.dtype == torch.bool or self.values.knows(x))
        if x.device == HOST or is_asked_for:
            copy = aten._to_copy.default(x, dtype=dtype, device=to, memory_format=layout)
            self._pass_on(x, copy, to)
            return copy
        self._place = CARD if to.type == "cuda" else to
        self.ops.append((self._path[-1], "aten._to_copy.default"))
        copy = self._copy_of(x, dtype=dtype, memory_format=layout or torch.preserve_format)
        term, self.term = self.term, "weights" if is_weight else self.term
        self.track(copy)
        self.term = term
        self._pass_on(x, copy, to)
        if own == HOST and self.running and (number := self.number_of(copy)) is not None:
            self.owners[number] = self.running
        return copy

    def _pass_on(self, x: torch.Tensor, copy: torch.Tensor, to: torch.device) -> None:
        place, self._place = self._place, CARD
        self.give_back([number for passing in passes_as_copy(x, copy, to) for number in self.take_copy(passing)])
        self._place = place

    def _copy_of(self, x: torch.Tensor, **how: Any) -> torch.Tensor:
        """A tensor without data like `x` that nobody has noted yet. What is known of `x` is known of it."""
        before, self._within = self._within, True
        with _disable_current_modes():
            if how.get("memory_format") is torch.preserve_format and x.is_contiguous():  # as `empty_like`, faster
                copy = torch.empty_strided(x.shape, x.stride(), dtype=how["dtype"], device=NOWHERE)
            else:
                copy = torch.empty_like(x, **how | {"device": NOWHERE})
            if self.values.knows(x) or (is_real(x) and copy.untyped_storage().nbytes() <= LIMIT):
                self.values.know(copy, self.values.compute(torch.clone, (x,), {}))
        self._within = before
        return copy
