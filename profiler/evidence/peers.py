"""What others' formulas say of a workload: the estimates that this project's are held against.

Each formula is given as its numbers, with where they were read, and compared only on the quantity that it is for:

    comfyui, invokeai   the room that a call wants beside the weights: growth of reserved bytes
    weights-only        the weights alone, as accelerate's `estimate-memory` counts them
    weights+20%         allocated bytes of an inference, by the same tool's documentation

ComfyUI's figures are for its own implementations of the networks, InvokeAI's for the diffusers classes. None stands where
a peer has no formula; the reason says so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from profiler.data.units import MIB
from profiler.data.workload import Workload
from profiler.models.spec import ModelSpec, Size

Peer = Literal["comfyui", "invokeai", "weights-only", "weights+20%"]
QUANTITY: dict[Peer, str] = {
    "comfyui": "reserved_growth", "invokeai": "reserved_growth", "weights-only": "weights", "weights+20%": "allocated",
}  # fmt: skip
SOURCES: dict[Peer, str] = {
    "comfyui": "Comfy-Org/ComfyUI comfy/sd.py @033046cc, comfy/supported_models.py @01f03bbd, comfy/model_base.py @094c74c1",
    "invokeai": "invoke-ai/InvokeAI invokeai/backend/util/vae_working_memory.py @8e71a8a5, CUDA branch",
    "weights-only": "huggingface/accelerate estimate-memory @16cb6eb8: parameters times the dtype",
    "weights+20%": "huggingface/accelerate estimate-memory documentation: up to an additional 20 % for inference",
}
ELEMENT = {"fp32": 4, "fp16": 2, "bf16": 2}


@dataclass(frozen=True)
class Baseline:
    """A peer's figure in bytes, or None with the reason."""

    bytes: int | None
    reason: str


# Bytes per byte of an element, of T, H, W: pixels for encode, latent for decode. Batch is not in ComfyUI's formulas.
Formula = Callable[[int, int, int], float]
COMFY_VAE: dict[str, tuple[Formula, Formula]] = {
    "AutoencoderKL": (lambda t, h, w: 1767 * h * w, lambda t, h, w: 2178 * h * w * 64),
    "AutoencoderKLFlux2": (lambda t, h, w: 1767 * h * w, lambda t, h, w: 4 * 2178 * h * w * 64),
    "AutoencoderKLHunyuanImage": (lambda t, h, w: 700 * h * w, lambda t, h, w: 700 * h * w * 1024),
    "AutoencoderKLHunyuanVideo": (
        lambda t, h, w: 1400 * min(9, t) * h * w,
        lambda t, h, w: 2800 * min(8, 4 * (t - 1) + 1) * h * w * 64,
    ),
    "AutoencoderKLHunyuanVideo15": (lambda t, h, w: 1400 * 9 * h * w, lambda t, h, w: 3600 * 4 * h * w * 256),
    "AutoencoderKLCogVideoX": (
        lambda t, h, w: 1400 * max(1, t) * h * w,
        lambda t, h, w: 2800 * max(2, 4 * (t - 1) + 1) * h * w * 64,
    ),
    "AutoencoderKLMochi": (lambda t, h, w: 1.5 * max(t, 7) * h * w * 384, lambda t, h, w: 1000 * t * h * w * 384),
    "AutoencoderKLLTXVideo": (lambda t, h, w: 80 * max(t, 7) * h * w, lambda t, h, w: 1200 * t * h * w * 512),
    "AutoencoderKLCosmos": (lambda t, h, w: 50 * (t + 7) // 8 * 8 * h * w, lambda t, h, w: 50 * t * h * w * 512),
    "AutoencoderKLWan": (
        lambda t, h, w: (1500 if t <= 4 else 6000) * h * w,
        lambda t, h, w: (2200 if t <= 4 else 7000) * h * w * 64,
    ),
    "AutoencoderKLWan, 48 channels": (lambda t, h, w: 3300 * h * w, lambda t, h, w: 8000 * h * w * 256),
}
COMFY_VAE["AutoencoderKLQwenImage"] = COMFY_VAE["AutoencoderKLWan"]

# `memory_usage_factor` of a denoiser; a mebibyte a hundred latent positions, per byte of an element, with fused attention.
COMFY_DENOISER: dict[str, float] = {
    "UNet2DConditionModel": 1.0, "UNet2DConditionModel, SDXL": 0.8, "SD3Transformer2DModel": 1.6,
    "PixArtTransformer2DModel": 0.5, "HunyuanDiT2DModel": 1.3, "FluxTransformer2DModel": 3.1,
    "MochiTransformer3DModel": 2.0, "HunyuanVideoTransformer3DModel": 1.8, "HunyuanVideo15Transformer3DModel": 4.0,
    "HunyuanImageTransformer2DModel": 8.7, "CosmosTransformer3DModel": 1.6, "Lumina2Transformer2DModel": 1.4,
    "ZImageTransformer2DModel": 2.8, "QwenImageTransformer2DModel": 1.8, "ChromaTransformer2DModel": 3.2,
    "OmniGen2Transformer2DModel": 1.95, "CogVideoXTransformer3DModel": 2.0, "AuraFlowTransformer2DModel": 2.0,
    "HiDreamImageTransformer2DModel": 2.0,
}  # fmt: skip

# InvokeAI: bytes per pixel and byte of an element, (encode, decode); video classes add copies of the clip.
INVOKE_VAE = {
    "AutoencoderKL": (1100, 2200),
    "AutoencoderKLFlux2": (1100, 2200),
    "AutoencoderKLQwenImage": (1600, 2900),
    "AutoencoderKLWan": (1450, 6500),
    "AutoencoderKLWan, 48 channels": (1450, 7000),
}


def baselines(workload: Workload, spec: ModelSpec) -> dict[Peer, Baseline]:
    """Every peer's figure for `workload`."""
    return {
        "comfyui": _comfyui(workload, spec),
        "invokeai": _invokeai(workload, spec),
        "weights-only": _weights(workload, spec, "weights-only", 1.0),
        "weights+20%": _weights(workload, spec, "weights+20%", 1.2),
    }


def _comfyui(workload: Workload, spec: ModelSpec) -> Baseline:
    if workload.stage == "denoise":
        return _comfyui_denoiser(workload, spec)
    pair = COMFY_VAE.get(_vae_class(spec))
    if pair is None or workload.stage not in ("encode", "decode"):
        return Baseline(None, f"ComfyUI has no formula for {workload.stage} of {_class(workload, spec)}")
    if workload.options.tiling:
        return Baseline(None, "ComfyUI tiles in a way of its own")
    encode, decode = pair
    frames, height, width = _latent(workload, spec)
    if workload.stage == "encode":
        value = encode(workload.frames, workload.height, workload.width)
    else:
        value = decode(frames, height, width)
    return Baseline(round(value * ELEMENT[workload.dtype] * _at_once(workload)), SOURCES["comfyui"])


def _comfyui_denoiser(workload: Workload, spec: ModelSpec) -> Baseline:
    factor = _comfyui_factor(spec)
    if factor is None:
        return Baseline(None, f"ComfyUI has no factor for {_class(workload, spec)}")
    frames, height, width = _latent(workload, spec)
    area = workload.batch * frames * height * width
    return Baseline(round(area * ELEMENT[workload.dtype] * 0.01 * factor * MIB), SOURCES["comfyui"])


def _comfyui_factor(spec: ModelSpec) -> float | None:
    assert spec.denoiser is not None
    name, config = spec.denoiser.class_name, spec.denoiser.config
    if name == "WanTransformer3DModel":
        return _width(config) / 2222
    if name == "LTXVideoTransformer3DModel":
        return 5.5 * int(config.get("cross_attention_dim", 2048)) / 2048
    if name == "Flux2Transformer2DModel":
        return 3.1 * 4 * _width(config) / 2604
    if name == "UNet2DConditionModel" and config.get("addition_embed_type") == "text_time":
        name += ", SDXL"
    return COMFY_DENOISER.get(name)


def _width(config: dict[str, Any]) -> int:
    width: int = config.get("num_attention_heads", 40) * config.get("attention_head_dim", 128)
    return width


def _invokeai(workload: Workload, spec: ModelSpec) -> Baseline:
    pair = INVOKE_VAE.get(_vae_class(spec))
    if pair is None or workload.stage not in ("encode", "decode"):
        return Baseline(None, f"InvokeAI has no formula for {workload.stage} of {_class(workload, spec)}")
    if workload.options.tiling and workload.options.tile is None:
        return Baseline(None, "InvokeAI's formula wants the tile size")
    element = ELEMENT[workload.dtype]
    height, width = workload.options.tile or (workload.height, workload.width)
    value = height * width * element * pair[workload.stage == "decode"] * (1.25 if workload.options.tile else 1)
    if _vae_class(spec).startswith("AutoencoderKLWan"):
        copies = 2 if workload.stage == "decode" else 1
        value += copies * 3 * workload.frames * workload.height * workload.width * element
    if _vae_class(spec) == "AutoencoderKL" and spec.latent.channels == 4 and workload.dtype == "fp32":
        value += 250 * MIB  # the SD and SDXL formula counts the larger fp32 weights in
    return Baseline(round(value * _at_once(workload)), SOURCES["invokeai"])


def _weights(workload: Workload, spec: ModelSpec, peer: Peer, factor: float) -> Baseline:
    component = spec.component(workload.stage)
    if component.parameters is None:
        return Baseline(None, f"no published parameter count of {component.class_name}")
    if workload.stage == "patch-embed":
        return Baseline(None, "counts whole components")
    return Baseline(round(component.parameters * ELEMENT[workload.dtype] * factor), SOURCES[peer])


def _at_once(workload: Workload) -> int:
    """Batch items in one call: both peers price one item, and run as many as there is room for."""
    return 1 if workload.options.slicing else workload.batch


def _latent(workload: Workload, spec: ModelSpec) -> tuple[int, int, int]:
    """Latent frames, height and width."""
    size = Size(frames=workload.frames, height=workload.height, width=workload.width)
    *_, height, width = spec.latent.shape(1, size)
    return spec.latent.latent_frames(workload.frames), height, width


def _vae_class(spec: ModelSpec) -> str:
    """The VAE's class, with its channels where the peers tell two apart."""
    assert spec.vae is not None
    name = spec.vae.class_name
    return f"{name}, 48 channels" if name == "AutoencoderKLWan" and spec.latent.channels == 48 else name


def _class(workload: Workload, spec: ModelSpec) -> str:
    return spec.component(workload.stage).class_name
