"""Sizes of a VAE's tiles, set through the attributes of its class, which go by several names.

A tile has a size in pixels along each side (`tile_sample_min_height`, or `tile_sample_min_size` for both), some classes keep
it in latents besides, and the next tile begins a stride further: `tile_sample_stride_height`, or the size less an overlap in
pixels (`tile_sample_min_overlap_height`), or less a share of it (`tile_overlap_factor`).
"""

import inspect
import re
from math import nextafter
from typing import Any

from profiler.data.workload import Workload
from profiler.models.spec import LatentContract

SIDES = ("height", "width")
FRAMEWISE = ("use_framewise_encoding", "use_framewise_decoding")


class NotTakenError(Exception):
    """The module does not take an option; the text says why."""


def reads(cls: type, attribute: str) -> bool:
    """Whether the class's own source uses the attribute other than to set it: the only proof that a switch is connected."""
    return re.search(rf"\.{attribute}\b(?!\s*=[^=])", inspect.getsource(cls)) is not None


def set_tile(module: Any, workload: Workload, contract: LatentContract) -> str:
    """Give tiles the size in pixels that is asked for; their overlap keeps its share."""
    tile = workload.options.tile
    assert tile is not None
    if _attribute(module, "tile_sample_min", "height") == "tile_sample_min_size" and len(set(tile)) > 1:
        raise NotTakenError(f"{type(module).__name__} has square tiles only")
    for side, size in zip(SIDES, tile, strict=True):
        _set_size(module, side, size, contract.spatial_compression)
    return "tiles of {}x{} px".format(*tile)


def set_stride(module: Any, workload: Workload, contract: LatentContract) -> str:
    """Let the next tile begin so many pixels further."""
    stride, name, latent = workload.options.tile_stride, type(module).__name__, contract.spatial_compression
    assert stride is not None
    height, width = (tile_size(module, side) for side in SIDES)
    if height is None or width is None:
        raise NotTakenError(f"{name} takes no tile size")
    if hasattr(module, "tile_overlap_factor") and stride[0] * width != stride[1] * height:
        raise NotTakenError(f"{name} has one overlap factor for both sides")
    for side, size, step in zip(SIDES, (height, width), stride, strict=True):
        _check_whole(step, latent, "px")
        if step > size:
            raise NotTakenError(f"strides of {step} px leave gaps between {name}'s tiles of {size} px; give --tile too")
        if factor := _attribute(module, "tile_overlap_factor", side):
            setattr(module, factor, _share(size, step, latent))
        elif hasattr(module, f"tile_sample_min_overlap_{side}"):
            setattr(module, f"tile_sample_min_overlap_{side}", size - step)
        elif hasattr(module, f"tile_sample_stride_{side}"):
            setattr(module, f"tile_sample_stride_{side}", step)
        else:
            raise NotTakenError(f"{name} takes no stride of tiles")
    return "a tile begins {} px below, {} px beside the one before".format(*stride)


def set_frames(module: Any, workload: Workload, contract: LatentContract) -> str:
    """Cut a clip into tiles of so many pixel frames; their overlap keeps its share."""
    frames, name, attribute = workload.options.tile_frames, type(module).__name__, "tile_sample_min_num_frames"
    assert frames is not None
    if not hasattr(module, attribute) or not reads(type(module), attribute):
        raise NotTakenError(f"{name} cuts no clip into tiles")
    if not any(getattr(module, switch, True) for switch in FRAMEWISE):
        raise NotTakenError(f"{name} cuts a clip into tiles only with --framewise")
    _set_size(module, "num_frames", frames, contract.temporal_compression)
    covered = f"on, without effect: one tile of {frames} frames covers the clip"
    return covered if workload.frames <= frames else f"tiles of {frames} frames"


def tile_size(module: Any, side: str) -> int | None:
    """Pixels of a tile along a side; None where the class has no such size."""
    attribute = _attribute(module, "tile_sample_min", side)
    size = getattr(module, attribute) if attribute else None
    return size if isinstance(size, int) else None


def _attribute(module: Any, name: str, side: str) -> str | None:
    """The attribute that says `name` of a side, or of both sides; None where there is none."""
    both = name if name == "tile_overlap_factor" else f"{name}_size"
    return next((a for a in (f"{name}_{side}", both) if hasattr(module, a)), None)


def _set_size(module: Any, side: str, size: int, latent: int) -> None:
    attribute, before = _attribute(module, "tile_sample_min", side), tile_size(module, side)
    if attribute is None or not before:
        raise NotTakenError(f"{type(module).__name__} takes no tile size")
    _check_whole(size, latent, "frames" if side == "num_frames" else "px")
    setattr(module, attribute, size)
    if in_latents := _attribute(module, "tile_latent_min", side):
        setattr(module, in_latents, size // latent)
    for steps in (f"tile_sample_stride_{side}", f"tile_sample_min_overlap_{side}"):
        if hasattr(module, steps):  # in whole latents: a stride that is wider would leave gaps
            setattr(module, steps, max(latent, getattr(module, steps) * size // before // latent * latent))


def _check_whole(pixels: int, latent: int, unit: str) -> None:
    if pixels % latent:
        raise NotTakenError(f"{pixels} {unit} are no whole number of latents: a multiple of {latent} is")


def _share(size: int, stride: int, latent: int) -> float:
    """The overlap factor of which classes make this stride, in pixels and in latents, as they round down."""
    factor = 1 - stride / size
    for candidate in (factor, nextafter(factor, 0), nextafter(factor, 1)):
        steps = int(size * (1 - candidate)), int(size // latent * (1 - candidate)), size - int(size * candidate)
        if steps == (stride, stride // latent, stride):
            return candidate
    raise NotTakenError(f"no overlap factor gives tiles of {size} px a stride of {stride} px")
