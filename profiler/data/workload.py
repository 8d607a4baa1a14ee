"""What is to be run: a model, a stage, a size, a dtype and memory options. Immutable, hashable, with a key."""

import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from profiler.data.units import MOST_PIXELS, check_size, is_size
from profiler.errors import UserError, check_text

StageName = Literal["encode", "decode", "roundtrip", "patch-embed", "denoise"]
DtypeName = Literal["fp32", "fp16", "bf16"]
AttentionName = Literal["flash", "efficient", "cudnn", "math", "flash-attn", "sage", "xformers"]

STAGES: tuple[StageName, ...] = get_args(StageName)
DTYPES: tuple[DtypeName, ...] = get_args(DtypeName)
ATTENTIONS: tuple[AttentionName, ...] = get_args(AttentionName)
# Kernels of packages besides torch: diffusers' `set_attention_backend` puts them in, by these names.
ATTENTION_PACKAGES: dict[AttentionName, str] = {"flash-attn": "flash", "sage": "sage", "xformers": "xformers"}
VAE_STAGES: tuple[StageName, ...] = ("encode", "decode", "roundtrip")


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """Options that trade memory for time, all off by default, as diffusers leaves them.

    `tile` is the pixel (height, width) of a tile, None for the class's own; `attention` pins a scaled-dot-product kernel,
    or one of another package; `autocast` runs an fp32 module under `torch.autocast`; `benchmark` is `cudnn.benchmark`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}  # a misspelt option of a file is an error

    tiling: bool = False
    tile: tuple[int, int] | None = None
    slicing: bool = False
    framewise: bool = False
    channels_last: bool = False
    attention: AttentionName | None = None
    autocast: DtypeName | None = None
    benchmark: bool = False

    def __post_init__(self) -> None:
        if self.tile is not None and not self.tiling:
            raise UserError("tile: a tile size needs tiling switched on")
        if self.tile is not None and (len(self.tile) != 2 or not all(map(is_size, self.tile))):
            raise UserError(f"tile: expected two positive integers (height, width), got {self.tile!r}")
        if self.attention is not None and self.attention not in ATTENTIONS:
            raise UserError(f"attention: no kernel {self.attention!r}; one of {', '.join(ATTENTIONS)}")
        if self.autocast not in (None, "bf16", "fp16"):
            raise UserError(f"autocast: no dtype {self.autocast!r}; one of bf16, fp16")

    @property
    def key(self) -> str:
        """The options that are on, as a path part; empty for none."""
        parts = [name for name in ("tiling", "slicing", "framewise") if getattr(self, name)]
        if self.tile is not None:
            parts[0] = f"tiling{self.tile[0]}x{self.tile[1]}"
        if self.channels_last:
            parts.append("channels-last")
        if self.attention is not None:
            parts.append(f"attention-{self.attention}")
        if self.autocast is not None:
            parts.append(f"autocast-{self.autocast}")
        if self.benchmark:
            parts.append("benchmark")
        return "+".join(parts)


@dataclass(frozen=True, kw_only=True)
class History:
    """What the process did before the call: reserved memory depends on it. The default is a fresh process.

    `sizes` are (frames, height, width) that the same stage ran at before; `empty_cache` calls `torch.cuda.empty_cache()`
    after them; `device_map` loads as `from_pretrained(device_map=...)` does: one large block first, given back at once.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    sizes: tuple[tuple[int, int, int], ...] = ()
    empty_cache: bool = False
    device_map: bool = False

    def __post_init__(self) -> None:
        for size in self.sizes:
            if len(size) != 3 or not all(map(is_size, size)):
                raise UserError(f"history: expected (frames, height, width) of positive integers, got {size!r}")

    @property
    def key(self) -> str:
        """What was done, in order, as a path part; empty for a fresh process."""
        parts = ["device-map"] if self.device_map else []
        parts += ["after-" + "x".join(map(str, size)) for size in self.sizes]
        return "+".join(parts + ["empty-cache"] * self.empty_cache)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One thing to estimate or measure. Sizes are pixels: `frames` x `height` x `width`, `batch` of them.

    `model` is a catalog id, a YAML path, a diffusers folder or a hub id. `dtype` is the dtype of the component that the
    stage runs. Raises UserError for a field that no model could accept; the model's own rules are checked by its contract.
    """

    model: str
    stage: StageName
    frames: int
    height: int
    width: int
    batch: int = 1
    dtype: DtypeName = "bf16"
    options: MemoryOptions = MemoryOptions()
    history: History = History()

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise UserError(f"stage: no stage {self.stage!r}; one of {', '.join(STAGES)}")
        if self.dtype not in DTYPES:
            raise UserError(f"dtype: no dtype {self.dtype!r}; one of {', '.join(DTYPES)}")
        for name in ("frames", "height", "width", "batch"):
            check_size(name, getattr(self, name))
        check_text("model", self.model)
        if self.frames * self.height * self.width * self.batch > MOST_PIXELS:
            raise UserError(f"frames, height, width and batch: at most {MOST_PIXELS:,} pixels in all")

    @property
    def key(self) -> str:
        """Names this workload among records: equal keys mean the same work."""
        size = f"{self.frames}x{self.height}x{self.width}"
        parts = [self.model, self.stage, size, f"b{self.batch}", self.dtype, self.options.key, self.history.key]
        return "/".join(part for part in parts if part)

    def check_device(self, device: str) -> None:
        """Raise UserError for an option that is not modelled on `device`."""
        if self.options.autocast is not None and device == "cpu":
            raise UserError("autocast: only CUDA's casts are modelled; the CPU casts other operations")

    @property
    def slug(self) -> str:
        """The key as one file name."""
        return re.sub(r"[^A-Za-z0-9.+_-]+", "_", self.key)

    @property
    def component(self) -> Literal["vae", "denoiser"]:
        """The part of the model that the stage runs."""
        return "vae" if self.stage in VAE_STAGES else "denoiser"


def option_names() -> list[str]:
    """The names of all memory options, in order."""
    return [field.name for field in fields(MemoryOptions)]
