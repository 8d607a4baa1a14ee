"""What goes between card and host: where storages lie, which operations take both, and what is copied on the way."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from profiler.allocator.host import Host
from profiler.trace.known_values import aten

TO = frozenset({aten.to.device, aten.to.dtype, aten.to.dtype_layout, aten.to.other, aten.type_as.default})
# These take tensors of two devices: copies, questions, and positions that may lie on the host.
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
BETWEEN = TO | INDEXED | {aten.copy_.default, aten.set_data.default, aten._has_compatible_shallow_copy_type.default}


class Place(NamedTuple):
    """Where a storage lies that is not on the card."""

    device: torch.device
    is_pinned: bool
    alive: weakref.ref[Any]


class Places:
    """Where storages lie that are not on the card, as long as they live. `host` counts the bytes of those that lie there.

    `died` hears of each that is gone, by its key.
    """

    def __init__(self, host: Host, died: Callable[[int], None]) -> None:
        self._host, self._died = host, died
        self._by_key: dict[int, Place] = {}

    def of(self, tensor: torch.Tensor) -> Place | None:
        """The place of the storage of `tensor`; None where it is on the card, or not noted."""
        return self._by_key.get(tensor.untyped_storage()._cdata)

    def lay(self, tensor: torch.Tensor, device: torch.device, *, is_pinned: bool = False) -> None:
        """Note that the storage of `tensor`, if it is new, lies there."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes() if device.type == "cpu" else 0
        if key in self._by_key:
            return

        def gone(_: Any) -> None:
            del self._by_key[key]
            self._died(key)
            self._host.give_back(size, pinned=is_pinned)

        self._host.take(size, pinned=is_pinned)
        self._by_key[key] = Place(device, is_pinned, weakref.ref(storage, gone))


def passes_as_copy(x: torch.Tensor, copy: torch.Tensor, to: torch.device) -> Iterator[torch.Tensor]:
    """The card's side of `x` and its `copy` on the device `to`, if a contiguous copy of it stands on the card meanwhile.

    What goes over the bus is contiguous, and types are converted on the host (Copy.cu). Where both sides are alike and dense
    their bytes go as they lie.
    """
    on_card = copy if to.type == "cuda" else x
    is_alike = (copy.dtype, copy.stride()) == (x.dtype, x.stride())
    if not on_card.is_contiguous() and not (is_alike and aten.is_non_overlapping_and_dense.default(on_card)):
        yield on_card


def tensors_in(args: Any) -> Iterator[torch.Tensor]:
    """The tensors among arguments, also in lists."""
    for value in args:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors_in(value)
