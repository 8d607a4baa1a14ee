"""A call of the user's own: any function over real modules, made ready to be traced like a stage of a model."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from profiler.errors import UserError
from profiler.stages.phases import Runnable

Modules = nn.Module | Mapping[str, nn.Module] | Sequence[nn.Module]


class Call(Runnable):
    """`function` on `inputs`, by position (a sequence) or by name (a mapping), over the weights of `module`."""

    def __init__(
        self, function: Callable[..., Any], module: nn.Module, inputs: Sequence[Any] | Mapping[str, Any]
    ) -> None:
        self.function, self.module, self._given = function, module, inputs
        self.inputs: Any = None

    def load(self, device: torch.device) -> None:
        """Put a tensor without data in the place of each weight, on `device`, in the order of `Module.to`.

        Weights that are tied stay tied, and a module that stands in two places has one set of them. `attributes_kept`
        brings the module's own back.
        """
        self.lay(device)

    def lay(self, device: torch.device, *, as_found: bool = False) -> None:
        """As `load`. `as_found`: a weight that requires no gradient keeps its data."""
        fresh: dict[int, torch.Tensor] = {}
        for holder, name, tensor in list(_state(self.module)):  # all before the first changes: a place may come twice
            is_parameter = isinstance(tensor, nn.Parameter)
            if id(tensor) not in fresh:
                grad = tensor.requires_grad
                has_values = (
                    as_found and not grad and not tensor.is_meta
                )  # positions, thresholds: code may decide by them
                empty = tensor.clone() if has_values else torch.empty_like(tensor, device=device)
                fresh[id(tensor)] = nn.Parameter(empty, requires_grad=grad) if is_parameter else empty
            holder[name] = fresh[id(tensor)]

    def make_inputs(self, device: torch.device) -> Any:
        """The inputs on `device`. What a tensor on the host holds stays known, where it is small."""
        self.inputs = tree_map_only(torch.Tensor, lambda tensor: _on(tensor, device), self._given)
        return self.inputs

    def __call__(self) -> Any:
        """The function's answer, without gradients.

        In inference mode, as a stage's: under `no_grad` autograd takes fused operations apart before a trace sees them.
        """
        with torch.inference_mode():
            return self.answer()

    def answer(self) -> Any:
        """The function's answer as it is called from here."""
        return self.function(**self.inputs) if isinstance(self.inputs, Mapping) else self.function(*self.inputs)


def root_of(modules: Any) -> nn.Module:
    """One module that holds `Modules`: itself, or a container with their names, or their numbers, as paths.

    Raises UserError for anything else.
    """
    if isinstance(modules, nn.Module):
        return modules
    try:
        if isinstance(modules, Mapping):
            return nn.ModuleDict(dict(modules))
        if isinstance(modules, Sequence):
            return nn.ModuleList(modules)
    except (TypeError, KeyError) as error:
        raise UserError(f"modules: {error}: give a module, several, or several by name") from error
    raise UserError("modules: give the modules whose weights the call needs: one, several, or several by name")


@contextmanager
def attributes_kept(owners: Iterable[Any]) -> Iterator[None]:
    """What objects hold is there again afterwards: weights, hooks, switches, tensors kept by hand."""
    holders = [vars(owner) for owner in owners if hasattr(owner, "__dict__") and not isinstance(owner, type)]
    state = [(holder, {name: (value, _copy(value)) for name, value in holder.items()}) for holder in holders]
    try:
        yield
    finally:
        for holder, before in state:
            holder.clear()
            for name, (value, content) in before.items():
                holder[name] = value
                if content is not value:  # the very object, which a handle of a hook knows, with what it held
                    value.clear()
                    (value.extend if type(value) is list else value.update)(content)


def _copy(value: Any) -> Any:
    return type(value)(value) if type(value) in (dict, list, OrderedDict) else value  # the last: of a module's hooks


def _state(module: nn.Module) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
    """Every place of a weight, children before parents, parameters before buffers: its holder, its name, the tensor."""
    for child in module.children():
        yield from _state(child)
    for holder in (module._parameters, module._buffers):
        for name, tensor in holder.items():
            if tensor is not None:
                yield holder, name, tensor


def _on(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    if tensor.device.type == "cpu" and device.type == "meta":
        return tensor.to(device)  # its content goes along: a mask or a timestep may be asked for
    return torch.empty_like(tensor, device=device)
