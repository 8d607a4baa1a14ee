"""Applies memory options through diffusers' own methods and attributes, and reads them back.

Some classes accept a switch and never look at it, some refuse it; both are an error, never reported as applied.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from profiler.data.records import AppliedOption
from profiler.data.workload import MemoryOptions, Workload
from profiler.errors import UserError
from profiler.models.attention import dispatched_attention
from profiler.models.spec import LatentContract
from profiler.stages import tiles
from profiler.stages.tiles import FRAMEWISE, NotTakenError, reads

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the dimensions of a convolution's weight


def apply_options(module: nn.Module, workload: Workload, contract: LatentContract) -> dict[str, AppliedOption]:
    """Apply every option that `workload` asks for; one entry for each, by name.

    Raises UserError that names each option that `module` does not take, and why.
    """
    applied: dict[str, AppliedOption] = {}
    refused = []
    for name, apply in OPTIONS.items():
        if getattr(workload.options, name):
            try:
                applied[name] = AppliedOption(applied=True, detail=apply(module, workload, contract))
            except NotTakenError as reason:
                refused.append(f"{name}: cannot be applied: {reason}; leave it out")
    if refused:
        raise UserError("; ".join(refused))
    return applied


def check_reached(asked: MemoryOptions, ops: Sequence[tuple[str, str]]) -> None:
    """Raise UserError where an attention kernel is pinned and none of `ops`, as an observer lists them, is attention."""
    if asked.attention is not None and not any("scaled_dot_product" in name for _, name in ops):
        raise UserError(
            f"attention: cannot be applied: nothing here calls torch's scaled_dot_product_attention, so {asked.attention} "
            "pins nothing; leave it out"
        )


@contextmanager
def active_backend(name: str | None) -> Iterator[None]:
    """Make `name` the default of diffusers' dispatcher for a time: `native`, its own, whatever stood there.

    Not by diffusers' own context manager, which wants the backend's package installed. Raises UserError where a backend
    refuses a call, such as one with a mask.
    """
    from diffusers.models import attention_dispatch

    registry = attention_dispatch._AttentionBackendRegistry
    before = registry._active_backend
    registry.set_active_backend(attention_dispatch.AttentionBackendName(name or "native"))
    try:
        yield
    except ValueError as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename != attention_dispatch.__file__:
            raise
        raise UserError(f"attention_backend: {name or 'native'} refuses a call of this model: {error}") from error
    finally:
        registry.set_active_backend(before)


def _tiling(module: Any, workload: Workload, contract: LatentContract) -> str:
    _switch(module, "tiling")
    height, width = (tiles.tile_size(module, side) for side in tiles.SIDES)
    if height is None or width is None:
        return "on"
    if workload.height <= height and workload.width <= width:
        return f"on, without effect: one tile of {height}x{width} px covers the frame"
    return f"on, tiles of {height}x{width} px"


def _slicing(module: Any, workload: Workload, contract: LatentContract) -> str:
    _switch(module, "slicing")
    return "on, without effect: slices are batch items, batch is 1" if workload.batch == 1 else "on"


def _switch(module: Any, name: str) -> None:
    """Call `enable_<name>`, and see that it sets `use_<name>` and that the class reads that."""
    method, flag, class_name = f"enable_{name}", f"use_{name}", type(module).__name__
    try:
        getattr(module, method)()
    except AttributeError:
        raise NotTakenError(f"{class_name} has no {method}") from None
    except NotImplementedError as error:
        raise NotTakenError(f"{class_name} refuses: {error}") from error
    if not getattr(module, flag, False):
        raise NotTakenError(f"{class_name}.{flag} is still off after {method}()")
    if not reads(type(module), flag):
        raise NotTakenError(f"{class_name} never reads {flag}: {method}() changes nothing")


def _framewise(module: Any, workload: Workload, contract: LatentContract) -> str:
    name = type(module).__name__
    switches = [switch for switch in FRAMEWISE if hasattr(module, switch)]
    if not switches:
        raise NotTakenError(f"{name} has no framewise switch")
    for switch in switches:
        method = getattr(module, f"_enable{switch.removeprefix('use')}", None)
        if method is not None:
            method()  # Mochi's own way, which changes more than the switch
        else:
            setattr(module, switch, True)
    unread = [switch for switch in switches if not reads(type(module), switch)]
    if unread == switches:
        raise NotTakenError(f"{name} never reads {' or '.join(unread)}")
    return f"on, but {unread[0]} is never read by the class" if unread else "on"


def _channels_last(module: Any, workload: Workload, contract: LatentContract) -> str:
    for parameter in _convolutions(module):
        parameter.data = parameter.data.contiguous(memory_format=FORMATS[parameter.dim()])
    return "convolution weights are channels-last"


def _convolutions(module: nn.Module) -> list[nn.Parameter]:
    found = [parameter for parameter in module.parameters() if parameter.dim() in FORMATS]
    if not found:
        raise NotTakenError(f"{type(module).__name__} has no convolution weights")
    return found


def _attention_backend(module: Any, workload: Workload, contract: LatentContract) -> str:
    """As `set_attention_backend` does it; without data there need be no package."""
    backend = workload.options.attention_backend
    processors = dispatched_attention(module)
    if not processors:
        raise NotTakenError(
            f"{type(module).__name__} calls torch's attention itself; --attention pins a kernel of torch"
        )
    parameter = next(module.parameters())
    if parameter.is_meta or isinstance(parameter, FakeTensor):
        from diffusers.models.attention_dispatch import AttentionBackendName

        for processor in processors:
            processor._attention_backend = AttentionBackendName(backend)
    else:
        try:
            module.set_attention_backend(backend)
        except RuntimeError as error:  # its package is missing
            raise NotTakenError(str(error).rstrip(".")) from error
    return f"set_attention_backend('{backend}') in {len(processors)} attentions"


def _autocast(module: Any, workload: Workload, contract: LatentContract) -> str:
    if workload.dtype != "fp32":
        raise NotTakenError(f"weights are {workload.dtype} already: autocast is for fp32 ones")
    module.requires_grad_(True)  # as loaded: autocast keeps the casts of such weights until the call ends
    return f"torch.autocast to {workload.options.autocast}"


def _benchmark(module: Any, workload: Workload, contract: LatentContract) -> str:
    _convolutions(module)
    return "cudnn.benchmark: which plan is fastest is the card's to say; the first one is counted"


# By the option's name: applies it and says how, or raises NotTakenError. In this order: tiles of frames need framewise
# coding, and tiling tells of tiles as they are set.
OPTIONS: Mapping[str, Callable[[Any, Workload, LatentContract], str]] = {
    "framewise": _framewise,
    "tile": tiles.set_tile,
    "tile_stride": tiles.set_stride,
    "tile_frames": tiles.set_frames,
    "tiling": _tiling,
    "slicing": _slicing,
    "channels_last": _channels_last,
    "attention": lambda module, workload, contract: f"sdpa_kernel pins {workload.options.attention}",
    "attention_backend": _attention_backend,
    "autocast": _autocast,
    "benchmark": _benchmark,
}
