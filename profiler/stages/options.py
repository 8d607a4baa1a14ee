"""Applies memory options through diffusers' own methods and reads them back.

Some classes accept a switch and never look at it, some refuse it; both are said, never reported as applied.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from profiler.data.records import AppliedOption
from profiler.data.workload import ATTENTION_PACKAGES, Workload


class NotTakenError(Exception):
    """The module does not take an option; the text says why."""


def apply_options(module: nn.Module, workload: Workload) -> dict[str, AppliedOption]:
    """Apply every option that `workload` asks for; one entry for each, by name."""
    applied: dict[str, AppliedOption] = {}
    for name, apply in OPTIONS.items():
        if getattr(workload.options, name):
            try:
                applied[name] = AppliedOption(applied=True, detail=apply(module, workload))
            except NotTakenError as reason:
                applied[name] = AppliedOption(applied=False, detail=str(reason))
    return applied


def dispatched_attention(module: nn.Module) -> frozenset[str]:
    """Paths of the attentions that `set_attention_backend` reaches: those that go through diffusers' dispatcher."""
    processors = ((name, getattr(part, "processor", None)) for name, part in module.named_modules())
    return frozenset(name for name, processor in processors if hasattr(processor, "_attention_backend"))


def _tiling(module: Any, workload: Workload) -> str:
    _switch(module, "tiling")
    if workload.options.tile is not None:
        _set_tile(module, dict(zip(("height", "width"), workload.options.tile, strict=True)))
    one = getattr(module, "tile_sample_min_size", None)
    height, width = (getattr(module, f"tile_sample_min_{side}", one) for side in ("height", "width"))
    if height is None or width is None:
        return "on"
    if workload.height <= height and workload.width <= width:
        return f"on, without effect: one tile of {height}x{width} px covers the frame"
    return f"on, tiles of {height}x{width} px"


def _set_tile(module: Any, tile: dict[str, int]) -> None:
    keywords = {f"tile_sample_min_{side}": size for side, size in tile.items()}
    if not keywords.keys() <= inspect.signature(module.enable_tiling).parameters.keys():
        raise NotTakenError(f"{type(module).__name__}.enable_tiling takes no tile size")
    # A class that steps by a stride keeps its own overlap in proportion, in whole latent rows: wider would leave gaps.
    row = getattr(module, "spatial_compression_ratio", 1)
    for side, size in tile.items():
        stride = getattr(module, f"tile_sample_stride_{side}", None)
        if stride is not None:
            default = getattr(module, f"tile_sample_min_{side}")
            keywords[f"tile_sample_stride_{side}"] = max(row, size * stride // default // row * row)
    module.enable_tiling(**keywords)


def _slicing(module: Any, workload: Workload) -> str:
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
    if not _reads(type(module), flag):
        raise NotTakenError(f"{class_name} never reads {flag}: {method}() changes nothing")


def _framewise(module: Any, workload: Workload) -> str:
    names = [name for name in ("use_framewise_encoding", "use_framewise_decoding") if hasattr(module, name)]
    if not names:
        raise NotTakenError(f"{type(module).__name__} has no framewise switch")
    for name in names:
        method = getattr(module, f"_enable{name.removeprefix('use')}", None)
        if method is not None:
            method()  # Mochi's own way, which changes more than the switch
        else:
            setattr(module, name, True)
    unread = [name for name in names if not _reads(type(module), name)]
    if unread == names:
        raise NotTakenError(f"{type(module).__name__} never reads {' or '.join(unread)}")
    return f"on, but {unread[0]} is never read by the class" if unread else "on"


def _reads(cls: type, attribute: str) -> bool:
    """Whether the class's own source uses the attribute other than to set it: the only proof that a switch is connected."""
    return re.search(rf"\.{attribute}\b(?!\s*=[^=])", inspect.getsource(cls)) is not None


def _channels_last(module: Any, workload: Workload) -> str:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    convolutions = [parameter for parameter in module.parameters() if parameter.dim() in formats]
    if not convolutions:
        raise NotTakenError(f"{type(module).__name__} has no convolution weights")
    for parameter in convolutions:
        parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])
    return "convolution weights are channels-last"


def _attention(module: Any, workload: Workload) -> str:
    assert workload.options.attention is not None
    package = ATTENTION_PACKAGES.get(workload.options.attention)
    if package is None:
        return f"sdpa_kernel pins {workload.options.attention}"
    reached = dispatched_attention(module)
    if not reached:
        raise NotTakenError(f"{type(module).__name__} calls torch's attention itself")
    if next(module.parameters()).is_cuda:
        module.set_attention_backend(package)
    return f"set_attention_backend('{package}') in {len(reached)} attentions"


def _autocast(module: Any, workload: Workload) -> str:
    if workload.dtype != "fp32":
        raise NotTakenError(f"weights are {workload.dtype} already: autocast is for fp32 ones")
    module.requires_grad_(True)  # as loaded: autocast keeps the casts of such weights until the call ends
    return f"torch.autocast to {workload.options.autocast}"


def _benchmark(module: Any, workload: Workload) -> str:
    return "cudnn.benchmark: which plan is fastest is the card's to say; the first one is counted"


# By the option's name: applies it and says how, or raises NotTakenError.
OPTIONS: dict[str, Callable[[Any, Workload], str]] = {
    "tiling": _tiling,
    "slicing": _slicing,
    "framewise": _framewise,
    "channels_last": _channels_last,
    "attention": _attention,
    "autocast": _autocast,
    "benchmark": _benchmark,
}
