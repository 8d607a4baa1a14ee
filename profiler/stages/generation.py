"""A whole generation: diffusers' own pipeline object, placed by its own methods and called as its users call it."""

import functools
import importlib
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.nn.attention import sdpa_kernel

from profiler.data.spans import STEP
from profiler.data.workload import Placement
from profiler.errors import UserError
from profiler.stages.call import Call, Given, is_pipeline, root_of
from profiler.stages.options import active_backend
from profiler.stages.stage import SDPA

CHATTY = ("transformers", "diffusers")
HALVES = ("encode", "decode")  # of a VAE, which a pipeline calls in the place of the module itself
SIZES = re.compile(r"\b(height|width|num_frames|frames)\b")


class Generation(Call):
    """`function` on `inputs`, which calls the pipeline `pipe`, whose components stand where `placement` puts them.

    `heard` opens the part of a component's name whenever the pipeline calls a half of a VAE, or its scheduler's `step`;
    `said` is what the pipeline remarked on sizes, `backend` the attention of components that name none; `notes` are those of
    its making.
    """

    keeps_values = True

    def __init__(self, function: Callable[..., Any], pipe: Any, inputs: Given, placement: Placement) -> None:
        super().__init__(function, nn.ModuleDict(components(pipe)), inputs)
        self.pipe, self.placement = pipe, placement
        self.owners = [pipe, *pipe.components.values(), *self.module.modules()]
        self.said: list[str] = []
        self.notes: dict[str, str] = {}
        self.backend: str | None = None
        self.heard: Callable[[str], AbstractContextManager[Any]] = lambda _: nullcontext()

    def load(self, device: torch.device) -> None:
        """Weights on the host, of which nobody reads or writes a byte; then wherever the placement takes them."""
        super().load(torch.device("cpu"))
        for module in self.module.modules():
            # How transformers saves it again: no part of a call, and of objects whose attributes no trace can read.
            vars(module).pop("_weight_conversions", None)
        self.pipe.set_progress_bar_config(disable=True)
        place(self.pipe, self.placement, device)

    def on(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        """An input as it was given; one without data is made on `device`."""
        return torch.empty_like(tensor, device=device) if tensor.is_meta else tensor

    def __call__(self) -> Any:
        """The pipeline's answer, without gradients."""
        pinned = self.asked.attention
        with torch.no_grad(), sdpa_kernel(SDPA[pinned]) if pinned else nullcontext(), ExitStack() as patches:
            patches.enter_context(active_backend(self.asked.attention_backend or self.backend))
            for name, component in self.pipe.components.items():
                for method in HALVES if "vae" in name else ("step",) if name == STEP else ():
                    if hasattr(component, method):
                        kind = type(component)  # and not the object: a pipeline may copy its scheduler
                        patches.enter_context(patch.object(kind, method, self._as_part(name, getattr(kind, method))))
            return self.answer()

    def _as_part(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def part(owner: Any, *args: Any, **kwargs: Any) -> Any:
            with self.heard(name):
                return method(owner, *args, **kwargs)

        return part


def components(pipe: Any) -> dict[str, nn.Module]:
    """The pipeline's modules by name."""
    return {name: value for name, value in pipe.components.items() if isinstance(value, nn.Module)}


def dtypes(pipe: Any) -> dict[str, set[torch.dtype]]:
    """The dtypes of each component's parameters."""
    return {name: {weight.dtype for weight in module.parameters()} for name, module in components(pipe).items()}


def place(pipe: Any, placement: Placement, device: torch.device) -> None:
    """By diffusers' own methods. Raises UserError where the pipeline refuses."""
    try:
        if placement.offload == "none":
            pipe.to(device)
        elif placement.offload == "model":
            pipe.enable_model_cpu_offload(device=device)
        elif placement.offload == "sequential":
            pipe.enable_sequential_cpu_offload(device=device)
        else:
            pipe.enable_group_offload(
                onload_device=device,
                offload_type=f"{placement.offload.removeprefix('group-')}_level",
                num_blocks_per_group=1,
                use_stream=placement.stream,
                record_stream=placement.record_stream,
                low_cpu_mem_usage=placement.low_cpu_mem,
            )
    except ValueError as error:
        raise UserError(f"offload: {type(pipe).__name__} refuses {placement.offload}: {error}") from error


def call_of(function: Callable[..., Any], inputs: Given, modules: Any, placement: Placement | None) -> Call:
    """The call that `estimate_call` is asked for: a whole generation, where a pipeline has the weights. Raises UserError."""
    owner = function if modules is None else modules
    if is_pipeline(owner):
        return Generation(function, owner, inputs, placement or Placement())
    if placement is not None:
        raise UserError("placement: goes with a pipeline of diffusers, as `modules` or as the function")
    return Call(function, root_of(owner), inputs)


class _AnySet(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, set)


class _Ordered(set[Any], metaclass=_AnySet):
    """A set that is gone through in order. A plain one of texts goes by their hashes, other ones in each process."""

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__(), key=str))


@contextmanager
def ordered(owners: Sequence[Any]) -> Iterator[None]:
    """`set(...)`, in the code of transformers, diffusers and the classes of `owners`, is gone through in order.

    transformers makes a mask and a position table for each kind of layer by `for kind in set(layer_types)` (5.24:
    create_masks_for_generate, Gemma3TextModel.forward): blocks are born in another order in each process, on a card too.
    """
    own = {type(owner).__module__ for owner in owners}
    found = [vars(m) for name, m in list(sys.modules.items()) if name in own or name.partition(".")[0] in CHATTY]
    changed = [names for names in found if "set" not in names]
    try:
        for names in changed:
            names["set"] = _Ordered
        yield
    finally:
        for names in changed:
            del names["set"]


class Remarks(logging.Handler):
    """Hears what a library says instead of its reader, and keeps what is about sizes, each once."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        """Of one remark."""
        text = record.getMessage()
        if SIZES.search(text) and text not in self.said:
            self.said.append(text)


@contextmanager
def quiet() -> Iterator[list[str]]:
    """What transformers and diffusers remark on the way is not said: it is about running, and nothing runs.

    But a pipeline that rounds a size says so in a remark: what is about sizes is in the list.
    """
    said: list[str] = []
    with warnings.catch_warnings(), ExitStack() as patches:
        warnings.simplefilter("ignore")
        for name in CHATTY:
            with suppress(ImportError):  # a pipeline without text needs no transformers
                library = importlib.import_module(f"{name}.utils.logging")
                library.get_logger(name)  # the first one sets the level
                if library.is_progress_bar_enabled():  # transformers has a bar for the layers of a LoRA
                    library.disable_progress_bar()
                    patches.callback(library.enable_progress_bar)
            logger = logging.getLogger(name)
            patches.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.WARNING)
            patches.enter_context(patch.multiple(logger, handlers=[Remarks(said)], propagate=False))
        yield said
