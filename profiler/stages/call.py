"""A call of the user's own: any function over real modules, made ready to be traced like a stage of a model."""

import copy
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from profiler.errors import UserError
from profiler.stages.phases import Runnable

Given = Sequence[Any] | Mapping[str, Any]  # arguments, by position or by name
Modules = nn.Module | Mapping[str, nn.Module] | Sequence[nn.Module]
QUANTISERS = frozenset({"bitsandbytes", "torchao", "quanto", "gguf", "hqq", "awq", "gptqmodel", "quantized"})
OFFLOADS = {"CpuOffload": "model", "AlignDevicesHook": "sequential", "GroupOffloadingHook": "group-leaf"}  # by hook
COPIED = (dict, list, OrderedDict)  # the last: of a module's hooks


class Call(Runnable):
    """`function` on `inputs`, by position (a sequence) or by name (a mapping), over the weights of `module`.

    `owners` are whatever it may change, of which `attributes_kept` brings back what they held.
    """

    keeps_values = False  # of weights that require no gradient, positions and thresholds: code may decide by them

    def __init__(self, function: Callable[..., Any], module: nn.Module, inputs: Given) -> None:
        check_as_loaded(module)
        self.function, self.module, self._given = function, module, (function, inputs)
        self.inputs: Any = None
        self.name = getattr(function, "__qualname__", type(function).__name__)
        self.owners = [function, *module.modules()]

    def load(self, device: torch.device) -> None:
        """Put a tensor without data in the place of each weight, on `device`, in the order of `Module.to`.

        Weights that are tied stay tied, and a module that stands in two places has one set of them.
        """
        fresh: dict[int, torch.Tensor] = {}
        for holder, name, tensor in list(_state(self.module)):  # all before the first changes: a place may come twice
            is_parameter = isinstance(tensor, nn.Parameter)
            if id(tensor) not in fresh:
                grad = tensor.requires_grad
                has_values = self.keeps_values and not grad and not tensor.is_meta
                empty = tensor.clone() if has_values else torch.empty_like(tensor, device=device)
                fresh[id(tensor)] = nn.Parameter(empty, requires_grad=grad) if is_parameter else empty
            holder[name] = fresh[id(tensor)]
        for attributes in map(vars, self.module.modules()):
            for name, value in attributes.items():
                if isinstance(value, torch.Tensor) and value.is_meta:  # no buffer, but made where the weights were
                    attributes[name] = torch.empty_like(value, device=device)

    def make_inputs(self, device: torch.device) -> list[torch.Tensor]:
        """The tensors of the inputs, and of a function that is partial, as they are laid for a call on `device`."""
        met: dict[int, Any] = {}
        self.function, self.inputs = relaid(self._given, lambda tensor: self.on(tensor, device), met)
        return [value for value in met.values() if isinstance(value, torch.Tensor)]

    def on(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        """An input on `device`. What a tensor on the host holds stays known, where it is small."""
        if tensor.device.type == "cpu" != device.type:
            return tensor.to(device)  # its content goes along: a mask or a timestep may be asked for
        return torch.empty_like(tensor, device=device)

    def __call__(self) -> Any:
        """The function's answer, without gradients.

        In inference mode, as a stage's: under `no_grad` autograd takes fused operations apart before a trace sees them.
        """
        with torch.inference_mode():
            return self.answer()

    def answer(self) -> Any:
        """The function's answer as it is called from here. Raises UserError for one that is still to be computed."""
        inputs = self.inputs
        found = self.function(**inputs) if isinstance(inputs, Mapping) else self.function(*inputs)
        if not isinstance(found, Iterator | AsyncIterator | Awaitable):
            return found
        getattr(found, "close", str)()  # a coroutine that nobody awaits complains
        raise UserError(
            f"function: its answer is a {type(found).__name__}, of which nothing has run yet: give a plain function that "
            "runs all of it, as `lambda *given: list(f(*given))` of a generator, or `asyncio.run(f(*given))` of a coroutine"
        )


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
        ways = "give a module, several, or several by name; a pipeline is given itself, as `modules=pipe`"
        raise UserError(f"modules: {error}: {ways}") from error
    raise UserError("modules: give the modules whose weights the call needs: one, several, or several by name")


def is_pipeline(value: Any) -> bool:
    """Whether `value` is a pipeline of diffusers, or looks like one."""
    return not isinstance(value, nn.Module) and isinstance(getattr(value, "components", None), Mapping)


def hooks_of(module: nn.Module) -> list[Any]:
    """The hooks of accelerate and of diffusers on a module itself."""
    own = getattr(module, "_hf_hook", None)
    return [*getattr(own, "hooks", [own]), *getattr(getattr(module, "_diffusers_hook", None), "hooks", {}).values()]


def check_as_loaded(root: nn.Module) -> None:
    """Raise UserError where a part of `root` is offloaded already, or quantised: neither can be followed from there."""
    for path, module in root.named_modules():
        where = f"modules: {path or type(module).__name__} is"
        for kind in OFFLOADS.keys() & {type(hook).__name__ for hook in hooks_of(module)}:
            placed = f"a pipeline is offloaded by placement=profiler.Placement(offload={OFFLOADS[kind]!r})"
            raise UserError(f"{where} offloaded already, by {kind}: give it as it was loaded; {placed}")
        for owner in (module, *module._parameters.values()):
            for maker in QUANTISERS.intersection(type(owner).__module__.split(".")):
                raise UserError(f"{where} quantised by {maker}, which is not covered: give it in bf16, fp16 or fp32")


def relaid(value: Any, lay: Callable[[torch.Tensor], torch.Tensor], met: dict[int, Any]) -> Any:
    """A copy of `value` with each tensor in it as `lay` gives it; what can hold none is the very object.

    Tensors are found in lists, tuples, sets, mappings, dataclasses, namespaces and partial functions. `met` has what was
    met, by id: a tensor that stands in two places stays one.
    """
    if id(value) in met:
        return met[id(value)]
    again, new = partial(relaid, lay=lay, met=met), value
    if isinstance(value, torch.Tensor):
        new = lay(value)
    elif isinstance(value, (list, tuple, set, frozenset)):
        new = getattr(value, "_make", type(value))([*map(again, value)])
    elif isinstance(value, partial):
        new = partial(again(value.func), *again(value.args), **again(value.keywords))
    elif isinstance(value, MutableMapping):
        new = copy.copy(value)
        for name, part in value.items():
            new[name] = again(part)
    elif isinstance(value, SimpleNamespace) or (is_dataclass(value) and not isinstance(value, (type, nn.Module))):
        new = copy.copy(value)
        for name in [field.name for field in fields(value)] if is_dataclass(value) else [*vars(value)]:
            object.__setattr__(new, name, again(getattr(value, name)))
    return met.setdefault(id(value), new)


@contextmanager
def attributes_kept(owners: Iterable[Any]) -> Iterator[None]:
    """What objects hold is there again afterwards: weights, hooks, switches, tensors kept by hand."""
    held: list[Any] = [vars(owner) for owner in owners if hasattr(owner, "__dict__") and not isinstance(owner, type)]
    held += [value for attributes in held for value in attributes.values() if type(value) in COPIED]
    # The very objects, which a handle of a hook knows, and what they held.
    kept = [(one, type(one)(one)) for one in held]
    try:
        yield
    finally:
        for one, content in kept:
            one.clear()
            (one.extend if type(one) is list else one.update)(content)


def _state(module: nn.Module) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
    """Every place of a weight, children before parents, parameters before buffers: its holder, its name, the tensor."""
    for child in module.children():
        yield from _state(child)
    for holder in (module._parameters, module._buffers):
        for name, tensor in holder.items():
            if tensor is not None:
                yield holder, name, tensor
