"""Small pipelines of real classes, with weights on `meta`, and how each is called. A scheduler has its numbers."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from profiler.models.pipeline_spec import Part, PipelineSpec, catalog_pipeline

if TYPE_CHECKING:
    import pytest  # dry CUDA's environment, which runs these pipelines, has none

Made = tuple[Any, dict[str, Any]]


class Encoding(dict[str, torch.Tensor]):
    """What a tokenizer gives: tensors by name."""

    def __getattr__(self, name: str) -> torch.Tensor:
        return self[name]


class Tokenizer:
    """Five words, whatever the text."""

    def __init__(self, length: int) -> None:
        self.model_max_length = length
        self.added_tokens_encoder: dict[str, int] = {}

    def __call__(self, text: Any, padding: str = "", max_length: int | None = None, **_: Any) -> Encoding:
        """Token ids and their mask: (texts, length)."""
        texts = len(text) if isinstance(text, list) else 1
        length = (max_length or self.model_max_length) if padding == "max_length" else 5
        mask = torch.zeros(texts, length, dtype=torch.long)
        mask[:, :5] = 1
        return Encoding(input_ids=torch.ones(texts, length, dtype=torch.long), attention_mask=mask)

    def tokenize(self, text: str) -> list[str]:
        """Words."""
        return text.split()

    def batch_decode(self, ids: torch.Tensor, **_: Any) -> list[str]:
        """Nothing."""
        return [""] * len(ids)


def t5(name: str = "T5") -> Any:
    """A text encoder whose embedding is tied."""
    import transformers

    config = getattr(transformers, f"{name}Config")(
        d_model=64, d_ff=128, num_layers=2, num_heads=4, d_kv=16, vocab_size=512, feed_forward_proj="gated-gelu"
    )
    return getattr(transformers, f"{name}EncoderModel")(config).to(torch.bfloat16)


def wan() -> Made:
    """Text to video, fp32 VAE."""
    import diffusers

    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    with torch.device("meta"):
        denoiser = diffusers.WanTransformer3DModel(
            num_layers=2, num_attention_heads=2, attention_head_dim=32, ffn_dim=128, text_dim=64, freq_dim=32
        )
        pipe = diffusers.WanPipeline(
            tokenizer=Tokenizer(512),
            text_encoder=t5("UMT5"),
            vae=diffusers.AutoencoderKLWan(base_dim=32, dim_mult=[1, 2, 2, 2], num_res_blocks=1),
            transformer=denoiser.to(torch.bfloat16),
            scheduler=scheduler,
        )
    call = {"prompt": "a cat", "negative_prompt": "bad", "height": 64, "width": 96, "num_frames": 9}
    return pipe, call | {"num_inference_steps": 2, "guidance_scale": 5.0}


def flux() -> Made:
    """Text to picture, two text encoders."""
    import diffusers
    import transformers

    blocks = 2
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    with torch.device("meta"):
        clip = transformers.CLIPTextConfig(
            hidden_size=64, intermediate_size=128, num_attention_heads=4, num_hidden_layers=2, vocab_size=512,
            projection_dim=64, max_position_embeddings=77, eos_token_id=2, bos_token_id=0, pad_token_id=1,
        )  # fmt: skip
        denoiser = diffusers.FluxTransformer2DModel(
            num_layers=2, num_single_layers=2, attention_head_dim=32, num_attention_heads=2, joint_attention_dim=64,
            pooled_projection_dim=64, guidance_embeds=True, axes_dims_rope=(8, 12, 12),
        )  # fmt: skip
        vae = diffusers.AutoencoderKL(
            block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks, layers_per_block=1, latent_channels=16,
            scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
        )  # fmt: skip
        pipe = diffusers.FluxPipeline(
            scheduler=scheduler,
            vae=vae.to(torch.bfloat16),
            text_encoder=transformers.CLIPTextModel(clip).to(torch.bfloat16),
            tokenizer=Tokenizer(77),
            text_encoder_2=t5(),
            tokenizer_2=Tokenizer(512),
            transformer=denoiser.to(torch.bfloat16),
        )
    return pipe, {"prompt": "a cat", "height": 128, "width": 64, "num_inference_steps": 2}


def cogvideox() -> Made:
    """Text to video, guidance in one batch."""
    import diffusers

    scheduler = diffusers.CogVideoXDDIMScheduler()
    with torch.device("meta"):
        denoiser = diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=2, attention_head_dim=32, in_channels=16, out_channels=16, time_embed_dim=32,
            text_embed_dim=64, num_layers=2, sample_width=12, sample_height=8, sample_frames=9,
            max_text_seq_length=226, use_rotary_positional_embeddings=True,
        )  # fmt: skip
        vae = diffusers.AutoencoderKLCogVideoX(
            block_out_channels=(32, 32, 64, 64), layers_per_block=1, norm_num_groups=8
        )
        pipe = diffusers.CogVideoXPipeline(
            tokenizer=Tokenizer(226),
            text_encoder=t5(),
            vae=vae.to(torch.bfloat16),
            transformer=denoiser.to(torch.bfloat16),
            scheduler=scheduler,
        )
    return pipe, {"prompt": "a cat", "height": 64, "width": 96, "num_frames": 9, "num_inference_steps": 2}


ADAPTED = {
    "transformer": (8, ("to_q", "to_k", "to_v", "to_out.0", "proj_mlp")),
    "text_encoder": (4, ("q_proj", "v_proj")),
}


def save_lora(path: Path, adapted: Mapping[str, tuple[int, tuple[str, ...]]] = ADAPTED) -> None:
    """A LoRA of the small FLUX in fp32, by default on the layers of its two components that LoRAs in the field adapt."""
    from safetensors.torch import save_file

    pipe, weights = flux()[0], {}
    for component, (rank, names) in adapted.items():
        for name, layer in pipe.components[component].named_modules():
            if name.endswith(names):
                weights[f"{component}.{name}.lora_A.weight"] = torch.zeros(rank, layer.in_features)
                weights[f"{component}.{name}.lora_B.weight"] = torch.zeros(layer.out_features, rank)
    save_file(weights, path)


PIPELINES: dict[str, Callable[[], Made]] = {"wan": wan, "flux": flux, "cogvideox": cogvideox}


def small_sd15(parameters: int | None, more: dict[str, Any] | None = None) -> PipelineSpec:
    """Stable Diffusion 1.5 as the catalog describes it, its modules small; `more` are changes of other parts' configs.

    Each of these parts is said to have so many `parameters`; None: to be counted.
    """
    spec = catalog_pipeline("sd1.5")
    small: dict[str, Any] = {
        "unet": {"block_out_channels": [32, 64], "attention_head_dim": 8, "cross_attention_dim": 32, "layers_per_block": 1,
                 "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
                 "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"]},
        "vae": {"block_out_channels": [32, 64, 64, 64], "layers_per_block": 1, "sample_size": 32,
                "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4},
        "text_encoder": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    }  # fmt: skip
    parts: dict[str, Any] = dict(spec.components)
    for name, config in (small | (more or {})).items():
        part = spec.part(name)
        assert isinstance(part, Part)
        parts[name] = replace(part, config=part.config | config, parameters=parameters)
    return replace(spec, components=parts)


def note_traces(monkeypatch: "pytest.MonkeyPatch") -> list[str]:
    """The cards for which whole generations are traced from now on, each time anew."""
    from profiler.estimation.placed import trace_generation

    cards: list[str] = []

    def heard(*args: Any, **how: Any) -> Any:
        cards.append(args[1].gpu)
        return trace_generation(*args, **how)

    monkeypatch.setattr("profiler.estimation.placed.trace_generation", heard)
    return cards
