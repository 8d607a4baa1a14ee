"""A VAE's tiling and other switches as its class has them: what to write in code, and what tiles compute twice."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

from profiler.errors import UserError
from profiler.search.question import Question, StageQuestion
from profiler.search.setting import Setting


@dataclass(frozen=True)
class Switches:
    """`arguments` of `enable_tiling`, `attributes` to set besides, and the share of pixels that tiles compute again."""

    arguments: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    recomputed: float | None = None


def switches(question: Question, setting: Setting) -> Switches:
    """What a setting changes of the VAE: the class itself is asked, on weights without data."""
    vae, options = question.vae_alone, setting.options
    if vae is None or not (options.tiling or options.framewise or options.slicing):
        return Switches()
    from profiler.stages.options import apply_options

    module = _module(vae, setting)
    before = dict(vars(module))
    asked = Setting(options=options).with_options(attention=None, attention_backend=None, autocast=None)
    apply_options(module, vae.workload(asked), vae.spec.latent)
    changed = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, int | float) and value != before.get(name) and name not in ("use_tiling", "use_slicing")
    }
    taken = inspect.signature(module.enable_tiling).parameters if options.tiling else {}
    arguments = {name: value for name, value in changed.items() if name in taken}
    rest = {name: value for name, value in changed.items() if name not in taken}
    return Switches(arguments, rest, _recomputed(module, vae) if options.tiling else None)


def refusal(question: Question, setting: Setting) -> str:
    """Why the VAE's class does not take what a setting asks of it; empty where it does."""
    try:
        switches(question, setting)
    except UserError as error:
        return str(error).partition(": cannot be applied: ")[2].removesuffix("; leave it out") or str(error)
    return ""


def class_tile(vae: StageQuestion) -> tuple[int, int] | None:
    """Height and width in pixels of the tiles that the class has by itself; None where it does not say."""
    from profiler.stages.tiles import SIDES, tile_size

    module = _module(vae, vae.base)
    height, width = (tile_size(module, side) for side in SIDES)
    return None if height is None or width is None else (height, width)


def _module(vae: StageQuestion, setting: Setting) -> Any:
    from profiler.models.build import TORCH_DTYPES, build, component_class

    described = vae.spec.component("decode")
    dtype = TORCH_DTYPES[setting.dtype or vae.base.dtype or described.dtype]
    return build(component_class(described.class_name), described.config, dtype)


def _recomputed(module: Any, vae: StageQuestion) -> float | None:
    """The share of pixels that tiles compute again; None where one holds all, or the class does not say how they overlap."""
    sides = [(_side(module, side), pixels) for side, pixels in zip(("height", "width"), vae.sides, strict=True)]
    known = [(*found, pixels) for found, pixels in sides if found]
    if len(known) < len(sides) or all(pixels <= tile for tile, _, pixels in known):
        return None
    return prod(sum(min(tile, n - start) for start in range(0, n, stride)) / n for tile, stride, n in known) - 1


def _side(module: Any, side: str) -> tuple[int, int] | None:
    """Pixels of a tile along a side, and from one to the next; None where the class does not say."""
    from profiler.stages.tiles import tile_size

    size = tile_size(module, side)
    ways: dict[str, Callable[[Any], int]] = {
        f"tile_sample_stride_{side}": int,
        f"tile_sample_min_overlap_{side}": lambda overlap: (size or 0) - overlap,
        f"tile_overlap_factor_{side}": lambda share: int((size or 0) * (1 - share)),
        "tile_overlap_factor": lambda share: int((size or 0) * (1 - share)),
    }
    for name, stride in ways.items():
        if size and hasattr(module, name):
            return size, max(1, stride(getattr(module, name)))
    return None
