"""The trace of a call of the user's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from profiler.errors import ModelError
from profiler.trace.crossing import BETWEEN, tensors_in
from profiler.trace.known_values import is_real
from profiler.trace.parts import PartsTrace
from profiler.trace.stand_in_cuda import stand_in_cuda


class OwnCallTrace(PartsTrace):
    """A trace that refuses, as a card does, what brings together a tensor on the host and one on the card.

    Such a one is most often the weight of a module that was not named. A model of a catalog is not looked at so closely.
    Code that names the card, as `x.to("cuda")`, gets the device of the tensors that stand for the card's.
    """

    @contextmanager
    def during(self, phase: str, term: str, module: nn.Module | None = None) -> Iterator[None]:
        """As the trace's."""
        with super().during(phase, term, module):
            if self.stack.device != "cuda":
                yield
                return
            with stand_in_cuda(self, {}), _OnCard(self.device):
                yield

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._observing and self.stack.device == "cuda" and self.device_type == "meta" and func not in BETWEEN:
            tensors = [*tensors_in(args)]
            here = [x for x in tensors if is_real(x)]
            if len(here) < len(tensors) and (own := next((x for x in here if x.dim()), None)) is not None:
                raise ModelError(
                    f"{self._path[-1] or 'the call'}: {func} is given a tensor of shape {tuple(own.shape)} that lies on the "
                    "host, and one on the card: name every module in `modules`, every tensor in `inputs`, or move it there"
                )
        return super().__torch_dispatch__(func, types, args, kwargs)


class _OnCard(TorchFunctionMode):
    """Where torch is given the card, `device` stands for it."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        func, args = (torch.Tensor.to, (args[0], self._device)) if func is torch.Tensor.cuda else (func, args)
        return func(*map(self._stands, args), **{name: self._stands(value) for name, value in (kwargs or {}).items()})

    def _stands(self, value: Any) -> Any:
        named = value if isinstance(value, str) else value.type if isinstance(value, torch.device) else ""
        return self._device if named.partition(":")[0] == "cuda" else value
