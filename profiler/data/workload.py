"""What is to be run: a model, a stage, a size, a dtype and memory options. Immutable, hashable, with a key."""

import re
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from profiler.data.section import Section
from profiler.data.units import MOST, MOST_PIXELS, by, check_number, check_size, is_size
from profiler.errors import UserError, check_kind, check_text

StageName = Literal["encode", "decode", "roundtrip", "patch-embed", "denoise", "generate"]
DtypeName = Literal["fp32", "fp16", "bf16"]
AttentionName = Literal["flash", "efficient", "cudnn", "math"]
BackendName = Literal[
    "native", "_native_cudnn", "_native_efficient", "_native_flash", "_native_math", "flash", "sage", "xformers"
]
OffloadName = Literal["none", "model", "sequential", "group-block", "group-leaf"]

GENERATE: Literal["generate"] = "generate"  # all of a pipeline, and no stage of a model
STAGES: tuple[StageName, ...] = tuple(name for name in get_args(StageName) if name != GENERATE)
SWITCHES = ("stream", "record_stream", "low_cpu_mem")  # of group offload
OFFLOADS: tuple[OffloadName, ...] = get_args(OffloadName)
DTYPES: tuple[DtypeName, ...] = get_args(DtypeName)
ATTENTIONS: tuple[AttentionName, ...] = get_args(AttentionName)
BACKENDS: tuple[BackendName, ...] = get_args(BackendName)
# Backends of diffusers whose memory is not modelled: of another package or device, or uncompiled flex attention's.
OTHER_BACKENDS = (
    *("flex", "flash_varlen", "flash_hub", "flash_varlen_hub", "flash_4_hub", "_flash_3", "_flash_varlen_3"),
    *("_flash_3_hub", "_flash_3_varlen_hub", "aiter_fa2_hub", "_native_npu", "_native_xla", "sage_hub"),
    *("sage_blackwell_hub", "sage_varlen", "_sage_qk_int8_pv_fp8_cuda", "_sage_qk_int8_pv_fp8_cuda_sm90"),
    *("_sage_qk_int8_pv_fp16_cuda", "_sage_qk_int8_pv_fp16_triton"),
)
CAST = "with stream diffusers brings weights as they were before"  # why a generation fails: the search looks for it too
VAE_STAGES: tuple[StageName, ...] = ("encode", "decode", "roundtrip")


@dataclass(frozen=True, kw_only=True)
class MemoryOptions(Section):
    """Options that trade memory for time, all off by default, as diffusers leaves them.

    `tile` is the pixel (height, width) of a tile, `tile_stride` how far the next one is, `tile_frames` its pixel frames;
    None for the class's own. `attention` pins one of torch's scaled-dot-product kernels; `attention_backend` is diffusers'
    name of what calls attention (`set_attention_backend`). `autocast` runs an fp32 module under `torch.autocast`;
    `benchmark` is `cudnn.benchmark`.
    """

    tiling: bool = False
    tile: tuple[int, int] | None = None
    tile_stride: tuple[int, int] | None = None
    tile_frames: int | None = None
    slicing: bool = False
    framewise: bool = False
    channels_last: bool = False
    attention: AttentionName | None = None
    attention_backend: BackendName | None = None
    autocast: DtypeName | None = None
    benchmark: bool = False

    def __post_init__(self) -> None:
        for name in ("tiling", "slicing", "framewise", "channels_last", "benchmark"):
            check_kind(name, getattr(self, name), bool, "True")
        for name in ("tile", "tile_stride", "tile_frames"):
            value = getattr(self, name)
            if value is not None and not self.tiling:
                raise UserError(f"{name}: a tile size needs tiling switched on")
            if value is not None and name == "tile_frames":
                check_size(name, value)
            elif value is not None and (not isinstance(value, tuple | list) or [*map(is_size, value)] != [True] * 2):
                raise UserError(f"{name}: expected two positive integers (height, width), got {value!r}")
        if self.tile and self.tile_stride and any(a > b for a, b in zip(self.tile_stride, self.tile, strict=True)):
            raise UserError(f"tile_stride: {by(self.tile_stride)} leaves gaps between tiles of {by(self.tile)}")
        if self.attention is not None and self.attention not in ATTENTIONS:
            moved = "; packages besides torch are asked for by attention_backend"
            raise UserError(f"attention: no kernel {self.attention!r} of torch; one of {', '.join(ATTENTIONS)}{moved}")
        if self.attention_backend is not None and self.attention_backend not in BACKENDS:
            known = self.attention_backend in OTHER_BACKENDS
            what = f"{self.attention_backend!r} is not modelled" if known else f"no backend {self.attention_backend!r}"
            raise UserError(f"attention_backend: {what}; one of {', '.join(BACKENDS)}")
        if self.attention is not None and self.attention_backend not in (None, "native"):
            raise UserError(
                f"attention: {self.attention_backend} decides the kernel itself; {self.attention} goes with native alone"
            )
        if self.autocast not in (None, "bf16", "fp16"):
            raise UserError(f"autocast: no dtype {self.autocast!r}; one of bf16, fp16")

    @property
    def key(self) -> str:
        """The options that are on, as a path part; empty for none."""
        stride = f"-stride{by(self.tile_stride)}" if self.tile_stride else ""
        frames = f"-frames{self.tile_frames}" if self.tile_frames else ""
        parts = [f"tiling{by(self.tile or ())}{stride}{frames}"] * self.tiling
        parts += [name.replace("_", "-") for name in ("slicing", "framewise", "channels_last") if getattr(self, name)]
        chosen = {"attention": self.attention, "backend": self.attention_backend, "autocast": self.autocast}
        parts += [f"{name}-{value}" for name, value in chosen.items() if value is not None]
        return "+".join(parts + ["benchmark"] * self.benchmark)


@dataclass(frozen=True, kw_only=True)
class Placement(Section):
    """Which component stands where and when. The default is all on the card, from the load on.

    `offload` is diffusers' `enable_model_cpu_offload`, `enable_sequential_cpu_offload` or `enable_group_offload`; the others
    are the latter's `use_stream`, `record_stream` and `low_cpu_mem_usage`.
    """

    offload: OffloadName = field(default="none", kw_only=False)
    stream: bool = False
    record_stream: bool = False
    low_cpu_mem: bool = False

    def __post_init__(self) -> None:
        if self.offload not in OFFLOADS:
            raise UserError(f"offload: no placement {self.offload!r}; one of {', '.join(OFFLOADS)}")
        for name in SWITCHES:
            check_kind(name, getattr(self, name), bool, "True")
        if self.stream and not self.offload.startswith("group"):
            raise UserError(f"stream: {self.offload} offload uses none; it goes with group-block and group-leaf")
        for name in SWITCHES[1:]:
            if getattr(self, name) and not self.stream:
                raise UserError(f"{name}: changes nothing without stream")

    @property
    def key(self) -> str:
        """What is asked for, as a path part; empty for the default."""
        switches = [name.replace("_", "-") for name in SWITCHES if getattr(self, name)]
        return "+".join([f"offload-{self.offload}", *switches]) if self != Placement() else ""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(Section):
    """What a whole generation is asked beside a size: where its components stand, and arguments of the pipeline's call.

    None is what the pipeline publishes. `steps` that are given are all measured; an estimate traces as many as stand for
    them. `lora` is a safetensors file, its folder, or a rank.
    """

    placement: Placement = Placement()
    steps: int | None = None
    guidance: float | None = None
    images_per_prompt: int = 1
    decode_chunk: int | None = None
    lora: int | str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "images_per_prompt", "decode_chunk"):
            if getattr(self, name) is not None:
                check_size(name, getattr(self, name))
        check_number("guidance", self.guidance or 0, least=-MOST)
        check_kind("placement", self.placement, Placement, "Placement(offload='model')")

    @property
    def call(self) -> dict[str, Any]:
        """The arguments, as `profiler.generate` takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "placement"}

    @property
    def key(self) -> str:
        """What is asked for, as a path part; empty for the default."""
        usual = GenerationOptions().call
        asked = {name.replace("_", "-"): value for name, value in self.call.items() if value != usual[name]}
        parts = [f"{name}-{value if isinstance(value, str) else f'{value:g}'}" for name, value in asked.items()]
        return "+".join(filter(None, [self.placement.key, *parts]))


@dataclass(frozen=True, kw_only=True)
class History(Section):
    """What the process did before the call: reserved memory depends on it. The default is a fresh process.

    `sizes` are (frames, height, width) that the same stage ran at before; `empty_cache` calls `torch.cuda.empty_cache()`
    after them; `device_map` loads as `from_pretrained(device_map=...)` does: one large block first, given back at once.
    """

    sizes: tuple[tuple[int, int, int], ...] = ()
    empty_cache: bool = False
    device_map: bool = False

    def __post_init__(self) -> None:
        for name in ("empty_cache", "device_map"):
            check_kind(name, getattr(self, name), bool, "True")
        for size in self.sizes if isinstance(self.sizes, (tuple, list)) else [self.sizes]:
            if not isinstance(size, (tuple, list)) or len(size) != 3 or not all(map(is_size, size)):
                raise UserError(f"history: expected (frames, height, width) of positive integers, got {size!r}")

    @property
    def key(self) -> str:
        """What was done, in order, as a path part; empty for a fresh process."""
        parts = ["device-map"] if self.device_map else []
        parts += [f"after-{by(size)}" for size in self.sizes]
        return "+".join(parts + ["empty-cache"] * self.empty_cache)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One thing to estimate or measure. Sizes are pixels: `frames` x `height` x `width`, `batch` of them.

    `model` is a catalog id, a YAML path, a diffusers folder or a hub id. `dtype` is the dtype of the component that the
    stage runs; `text_length` is the tokens of the prompt, None for as many as the model's pipeline takes. A `generation`
    makes it a whole one, of stage `generate`: `model` is a pipeline then, `batch` its prompts. Raises UserError for a field
    that no model could accept; the model's own rules are checked by its contract.
    """

    model: str
    stage: StageName
    frames: int
    height: int
    width: int
    batch: int = 1
    dtype: DtypeName = "bf16"
    text_length: int | None = None
    options: MemoryOptions = MemoryOptions()
    history: History = History()
    generation: GenerationOptions | None = None

    def __post_init__(self) -> None:
        if self.stage not in STAGES and not (self.stage == GENERATE and self.generation):
            raise UserError(f"stage: no stage {self.stage!r}; one of {', '.join(STAGES)}; profiler.generate has others")
        if self.generation and self.stage != GENERATE:
            raise UserError(f"generation: goes with stage {GENERATE}; {self.stage} takes none, and an entry of its own")
        if self.generation and self.history != History():
            raise UserError("history: goes with a single stage; a generation has two calls")
        if self.dtype not in DTYPES:
            raise UserError(f"dtype: no dtype {self.dtype!r}; one of {', '.join(DTYPES)}")
        for name in ("frames", "height", "width", "batch"):
            check_size(name, getattr(self, name))
        if self.text_length is not None:
            check_size("text_length", self.text_length)
        check_text("model", self.model)
        if self.frames * self.height * self.width * self.batch > MOST_PIXELS:
            raise UserError(f"frames, height, width and batch: at most {MOST_PIXELS:,} pixels in all")

    @property
    def key(self) -> str:
        """Names this workload among records: equal keys mean the same work."""
        size = f"{self.frames}x{self.height}x{self.width}"
        text = "" if self.text_length is None else f"text{self.text_length}"
        parts = [self.model, self.stage, size, f"b{self.batch}", self.dtype, text, self.options.key, self.history.key]
        return "/".join(filter(None, [*parts, self._whole]))

    @property
    def options_key(self) -> str:
        """The options that are on, of memory and of a generation, for a reader; empty for none."""
        return "+".join(filter(None, [self._whole, self.options.key]))

    @property
    def _whole(self) -> str:
        return self.generation.key if self.generation else ""

    def check_device(self, device: str) -> None:
        """Raise UserError for an option that is not modelled on `device`."""
        if self.options.autocast is not None and device == "cpu":
            raise UserError("autocast: only CUDA's casts are modelled; the CPU casts other operations")
        if self.options.benchmark and device == "cpu":
            raise UserError("benchmark: cuDNN runs on CUDA alone")
        if self.generation and self.generation.placement != Placement() and device == "cpu":
            raise UserError("placement: components are moved to a card; on the CPU leave it out")

    @property
    def slug(self) -> str:
        """The key as one file name."""
        return re.sub(r"[^A-Za-z0-9.+_-]+", "_", self.key)

    @property
    def component(self) -> Literal["vae", "denoiser"]:
        """The part of the model that the stage runs."""
        return "vae" if self.stage in VAE_STAGES else "denoiser"
