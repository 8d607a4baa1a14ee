"""Applies memory options through diffusers' own methods and reads them back.

Some classes accept a switch and never look at it, some refuse it; both are said, never reported as applied.
"""

import ast
import inspect
import textwrap
from typing import Any

import torch
from torch import nn

from profiler.data.records import AppliedOption
from profiler.data.workload import ATTENTION_PACKAGES, AttentionName, Workload


def apply_options(module: nn.Module, workload: Workload) -> dict[str, AppliedOption]:
    """Apply every option that `workload` asks for; one entry for each, by name."""
    options = workload.options
    applied: dict[str, AppliedOption] = {}
    if options.tiling:
        applied["tiling"] = _tiling(module, workload)
    if options.slicing:
        applied["slicing"] = _switch(module, "enable_slicing", "use_slicing")
        if workload.batch == 1 and applied["slicing"].applied:
            applied["slicing"] = AppliedOption(
                applied=True, detail="on, without effect: slices are batch items, batch is 1"
            )
    if options.framewise:
        applied["framewise"] = _framewise(module)
    if options.channels_last:
        applied["channels_last"] = _channels_last(module)
    if options.attention is not None:
        applied["attention"] = _attention(module, options.attention)
    if options.autocast is not None:
        applied["autocast"] = _autocast(module, workload)
    if options.benchmark:
        applied["benchmark"] = AppliedOption(
            applied=True, detail="cudnn.benchmark: which plan is fastest is the card's to say; the first one is counted"
        )
    return applied


def dispatched_attention(module: nn.Module) -> frozenset[str]:
    """Paths of the attentions that `set_attention_backend` reaches: those that go through diffusers' dispatcher."""
    processors = ((name, getattr(part, "processor", None)) for name, part in module.named_modules())
    return frozenset(name for name, processor in processors if hasattr(processor, "_attention_backend"))


def _attention(module: nn.Module, kernel: AttentionName) -> AppliedOption:
    package = ATTENTION_PACKAGES.get(kernel)
    if package is None:
        return AppliedOption(applied=True, detail=f"sdpa_kernel pins {kernel}")
    reached = dispatched_attention(module)
    if not reached:
        return AppliedOption(applied=False, detail=f"{type(module).__name__} calls torch's attention itself")
    if next(module.parameters()).is_cuda:
        module.set_attention_backend(package)  # type: ignore[operator]
    return AppliedOption(applied=True, detail=f"set_attention_backend('{package}') in {len(reached)} attentions")


def _autocast(module: nn.Module, workload: Workload) -> AppliedOption:
    if workload.dtype != "fp32":
        return AppliedOption(applied=False, detail=f"weights are {workload.dtype} already: autocast is for fp32 ones")
    module.requires_grad_(True)  # as loaded: autocast keeps the casts of such weights until the call ends
    return AppliedOption(applied=True, detail=f"torch.autocast to {workload.options.autocast}")


def _tiling(module: nn.Module, workload: Workload) -> AppliedOption:
    result = _switch(module, "enable_tiling", "use_tiling")
    tile = workload.options.tile
    if tile is None or not result.applied:
        return _tile_reached(module, workload) if result.applied else result
    keywords = {"tile_sample_min_height": tile[0], "tile_sample_min_width": tile[1]}
    accepted = inspect.signature(module.enable_tiling).parameters  # type: ignore[arg-type]
    if not set(keywords) <= set(accepted):
        return AppliedOption(applied=False, detail=f"{type(module).__name__}.enable_tiling takes no tile size")
    # A class that steps by a stride keeps its own overlap in proportion, in whole latent rows: wider would leave gaps.
    row: Any = getattr(module, "spatial_compression_ratio", 1)
    for side, size in zip(("height", "width"), tile, strict=True):
        stride: Any = getattr(module, f"tile_sample_stride_{side}", None)
        if stride is not None:
            default: Any = getattr(module, f"tile_sample_min_{side}")
            keywords[f"tile_sample_stride_{side}"] = max(row, size * stride // default // row * row)
    enable: Any = module.enable_tiling
    enable(**keywords)
    return _tile_reached(module, workload)


def _tile_reached(module: nn.Module, workload: Workload) -> AppliedOption:
    height = getattr(module, "tile_sample_min_height", getattr(module, "tile_sample_min_size", None))
    width = getattr(module, "tile_sample_min_width", getattr(module, "tile_sample_min_size", None))
    if height is None or width is None:
        return AppliedOption(applied=True, detail="on")
    if workload.height <= height and workload.width <= width:
        return AppliedOption(
            applied=True, detail=f"on, without effect: one tile of {height}x{width} px covers the frame"
        )
    return AppliedOption(applied=True, detail=f"on, tiles of {height}x{width} px")


def _framewise(module: nn.Module) -> AppliedOption:
    names = [name for name in ("use_framewise_encoding", "use_framewise_decoding") if hasattr(module, name)]
    if not names:
        return AppliedOption(applied=False, detail=f"{type(module).__name__} has no framewise switch")
    for name in names:
        method = getattr(module, f"_enable{name.removeprefix('use')}", None)
        if method is not None:
            method()  # Mochi's own way, which changes more than the switch
        else:
            setattr(module, name, True)
    unread = [name for name in names if not _reads(type(module), name)]
    if len(unread) == len(names):
        return AppliedOption(applied=False, detail=f"{type(module).__name__} never reads {' or '.join(unread)}")
    return AppliedOption(
        applied=True, detail="on" + (f", but {unread[0]} is never read by the class" if unread else "")
    )


def _channels_last(module: nn.Module) -> AppliedOption:
    ranks = {parameter.dim() for parameter in module.parameters()} & {4, 5}
    if not ranks:
        return AppliedOption(applied=False, detail=f"{type(module).__name__} has no convolution weights")
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        elif parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return AppliedOption(applied=True, detail="convolution weights are channels-last")


def _switch(module: nn.Module, method: str, flag: str) -> AppliedOption:
    name = type(module).__name__
    try:
        getattr(module, method)()
    except AttributeError:
        return AppliedOption(applied=False, detail=f"{name} has no {method}")
    except NotImplementedError as error:
        return AppliedOption(applied=False, detail=f"{name} refuses: {error}")
    if not getattr(module, flag, False):
        return AppliedOption(applied=False, detail=f"{name}.{flag} is still off after {method}()")
    if not _reads(type(module), flag):
        return AppliedOption(applied=False, detail=f"{name} never reads {flag}: {method}() changes nothing")
    return AppliedOption(applied=True, detail="on")


def _reads(cls: type, attribute: str) -> bool:
    """Whether the class's own source ever loads `self.<attribute>`: the only proof that a switch is connected."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError):
        return True
    return any(
        isinstance(node, ast.Attribute) and node.attr == attribute and isinstance(node.ctx, ast.Load)
        for node in ast.walk(tree)
    )
