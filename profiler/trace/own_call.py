"""The trace of a call of the user's own."""

from typing import Any

from profiler.errors import ModelError
from profiler.trace.crossing import BETWEEN, tensors_in
from profiler.trace.known_values import is_real
from profiler.trace.trace import Trace


class OwnCallTrace(Trace):
    """A trace that refuses, as a card does, what brings together a tensor on the host and one on the card.

    Such a one is most often the weight of a module that was not named. A model of a catalog is not looked at so closely.
    """

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
