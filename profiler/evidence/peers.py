"""What others' formulas say of a workload: the estimates that this project's are held against.

Each formula is given as its numbers, with where they were read, and compared only on the quantity that it is for:

    comfyui, invokeai   the room that a call wants beside the weights: growth of reserved bytes
    weights-only        the weights alone, as accelerate's `estimate-memory` counts them
    weights+20%         allocated bytes of an inference, by the same tool's documentation

ComfyUI's figures are for its own implementations of the networks, InvokeAI's for the diffusers classes. None stands where
a peer has no formula.
"""

from collections.abc import Callable
from math import prod
from typing import Any, Literal

from profiler.data.units import ELEMENT_BYTES, MIB
from profiler.data.workload import Workload
from profiler.models.spec import ModelSpec

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


def peer_figures(workload: Workload, spec: ModelSpec) -> dict[Peer, int | None]:
    """Every peer's figure for `workload`, in bytes; None where it has no formula."""
    comfyui = _comfyui_denoiser if workload.stage == "denoise" else _comfyui_vae
    is_part = workload.stage == "patch-embed"  # of its component
    weights = None if is_part else spec.component(workload.stage).parameters
    return {
        "comfyui": _bytes(workload, comfyui(workload, spec)),
        "invokeai": _bytes(workload, _invokeai(workload, spec)),
        "weights-only": _bytes(workload, weights),
        "weights+20%": _bytes(workload, weights and weights * 1.2),
    }


def _bytes(workload: Workload, elements: float | None) -> int | None:
    """Formulas count in bytes for each byte of an element: 2 for fp16 and bf16, 4 for fp32."""
    return None if elements is None else round(elements * ELEMENT_BYTES[workload.dtype])


def _comfyui_vae(workload: Workload, spec: ModelSpec) -> float | None:
    pair = COMFY_VAE.get(_vae_class(spec))
    if pair is None or workload.stage not in ("encode", "decode") or workload.options.tiling:
        return None  # it tiles in a way of its own
    encode, decode = pair
    if workload.stage == "encode":
        return encode(workload.frames, workload.height, workload.width) * _at_once(workload)
    return decode(*_latent(workload, spec)) * _at_once(workload)


def _comfyui_denoiser(workload: Workload, spec: ModelSpec) -> float | None:
    factor = _comfyui_factor(spec)
    return None if factor is None else workload.batch * prod(_latent(workload, spec)) * 0.01 * factor * MIB


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


def _invokeai(workload: Workload, spec: ModelSpec) -> float | None:
    name, options = _vae_class(spec), workload.options
    if name not in INVOKE_VAE or workload.stage not in ("encode", "decode"):
        return None
    if options.tiling and options.tile is None:
        return None  # its formula wants the size of a tile
    decodes = workload.stage == "decode"
    height, width = options.tile or (workload.height, workload.width)
    value = height * width * INVOKE_VAE[name][decodes] * (1.25 if options.tile else 1)
    if name.startswith("AutoencoderKLWan"):
        value += (2 if decodes else 1) * 3 * workload.frames * workload.height * workload.width
    if name == "AutoencoderKL" and spec.latent.channels == 4 and workload.dtype == "fp32":
        value += 250 * MIB / ELEMENT_BYTES["fp32"]  # the SD and SDXL formula counts the larger fp32 weights in
    return value * _at_once(workload)


def _at_once(workload: Workload) -> int:
    """Batch items in one call: both peers price one item, and run as many as there is room for."""
    return 1 if workload.options.slicing else workload.batch


def _latent(workload: Workload, spec: ModelSpec) -> tuple[int, int, int]:
    """Latent frames, height and width."""
    *_, height, width = spec.latent.shape(1, workload)
    return spec.latent.latent_frames(workload.frames), height, width


def _vae_class(spec: ModelSpec) -> str:
    """The VAE's class, with its channels where the peers tell two apart."""
    assert spec.vae is not None
    name = spec.vae.class_name
    return f"{name}, 48 channels" if name == "AutoencoderKLWan" and spec.latent.channels == 48 else name
