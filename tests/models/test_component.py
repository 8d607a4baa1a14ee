"""One class alone: contracts read off shapes, inputs found by name, and what cannot be found is asked for by name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from profiler.data.shown import first_notes
from profiler.data.stack import Stack
from profiler.data.units import MIB
from profiler.errors import ModelError, UserError
from profiler.estimation.estimator import estimate
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.models.build import build, component_class
from profiler.models.catalog import catalog_model
from profiler.models.component import read_class
from profiler.models.contract import find_contract
from profiler.models.find import find_model
from profiler.stages.stage import Stage

CPU_STACK = Stack(device="cpu", torch="2.13.0")
BRIA = {
    "_class_name": "BriaTransformer2DModel", "in_channels": 16, "num_layers": 1, "num_single_layers": 1,
    "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 24, "axes_dims_rope": [4, 6, 6],
}  # fmt: skip
MOCHI = {
    "_class_name": "AutoencoderKLMochi", "encoder_block_out_channels": [32, 32, 32, 32], "layers_per_block": [1, 1, 1, 1, 1],
    "decoder_block_out_channels": [32, 32, 32, 32], "latent_channels": 4,
    "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4,
}  # fmt: skip


def config_file(folder: Path, config: dict[str, Any]) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return str(path)


# True of every autoencoder of the catalog but pictures that stand as rows of a clip (AnimateDiff), and two of which no trial
# tells: Allegro wants tiles of its size, MiniMax-H3 compresses windows.
@pytest.mark.parametrize(
    "model",
    ["sd1.5", "taesd", "dc-ae-f128c512", "flux.2-dev", "ltx-video-2b", "svd-xt", "qwen-image-2.1-vae", "cogvideox-5b"],
)
def test_a_contract_found_is_the_catalogs(model: str) -> None:
    spec = catalog_model(model)
    assert spec.vae is not None
    module = build(component_class(spec.vae.class_name), spec.vae.config, torch.bfloat16).to("meta")
    found = find_contract(module)
    ours = replace(spec.latent, patch=found.patch)
    assert found == ours


def test_a_config_file_runs_as_with_data(tmp_path: Path) -> None:
    """The derived contract and inputs are those with which the class runs on real tensors."""
    spec = find_model(config_file(tmp_path, BRIA))
    assert spec.denoiser is not None
    assert set(spec.denoiser.inputs) == {
        "hidden_states", "encoder_hidden_states", "timestep", "img_ids", "txt_ids",
    } | ({"pooled_projections"} & set(spec.denoiser.inputs))  # fmt: skip
    workload = spec.workload("denoise", height=64, width=64, text_length=20)
    stage = Stage(workload, spec)
    stage.load(torch.device("cpu"))
    stage.make_inputs(torch.device("cpu"))
    assert stage().shape == (1, 16, 16)
    assert estimate(workload, spec, CPU_STACK).output_shapes == ((1, 16, 16),)


def test_an_autoencoder_by_its_config(tmp_path: Path) -> None:
    spec = find_model(config_file(tmp_path, MOCHI))
    assert (spec.latent.frame_rule, spec.latent.channels, spec.latent.spatial_compression) == ("6k+1", 4, 8)
    found = estimate(spec.workload("decode", frames=7, height=64, width=64), spec, CPU_STACK)
    assert found.output_shapes == ((1, 3, 7, 64, 64),)


def test_what_a_class_wants_and_nobody_knows_is_asked_for_by_name() -> None:
    with pytest.raises(UserError, match=r"condition_latents, kv_cache, kv_cache_mode, seq_len.*YAML"):
        read_class("WanAnimate2Transformer3DModel")


# The classes and configs of the catalog whose neighbours once lent them a clip's frames, or another picture's size.
SIZELESS = [("AutoencoderKL", "--height, --width"), ("AutoencoderKLWan", "--frames, --height, --width"),
            ("AutoencoderKLHunyuanVideo", "--frames, --height, --width")]  # fmt: skip
VAE = {
    "_class_name": "AutoencoderKL", "block_out_channels": [32, 32, 32, 32], "latent_channels": 4, "norm_num_groups": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4, "layers_per_block": 1,
}  # fmt: skip


@pytest.mark.parametrize(("name", "asked"), SIZELESS)
def test_a_class_by_name_asks_for_sizes_and_borrows_none(name: str, asked: str) -> None:
    spec = find_model(name)
    assert spec.default is None
    with pytest.raises(UserError, match=f"give {asked}$"):
        spec.workload("decode")


def test_an_estimate_of_a_class_by_name_says_first_whose_config_it_is() -> None:
    """The defaults of `AutoencoderKL` are a toy of 1.1 MiB, and a reader who wants Stable Diffusion's has to be told."""
    spec = find_model("AutoencoderKL")
    found = estimate(spec.workload("decode", height=64, width=64), spec, CPU_STACK)
    assert "the class's own defaults" in first_notes(found.notes)["model.config"]
    assert "that of catalog model latte" in read_class("LatteTransformer3DModel").sources["config"]


def test_a_config_file_is_its_own_word(tmp_path: Path) -> None:
    spec = find_model(config_file(tmp_path, VAE | {"sample_size": 64}))
    assert "model.config" not in estimate(spec.workload("decode"), spec, CPU_STACK).notes


@pytest.mark.parametrize(
    ("change", "size", "latent"),
    [
        ({"sample_size": 512}, (1, 512, 512), (1, 4, 64, 64)),  # Stable Diffusion 1.5
        ({"sample_size": 1024, "latent_channels": 16}, (1, 1024, 1024), (1, 16, 128, 128)),  # FLUX
        ({"sample_size": 256, "block_out_channels": [32] * 3, "down_block_types": ["DownEncoderBlock2D"] * 3,
          "up_block_types": ["UpDecoderBlock2D"] * 3}, (1, 256, 256), (1, 4, 64, 64)),  # the x4 upscaler
    ],
)  # fmt: skip
def test_a_picture_vae_alone_is_of_one_frame_and_its_own_size(
    tmp_path: Path, change: dict[str, Any], size: tuple[int, ...], latent: tuple[int, ...]
) -> None:
    spec = find_model(config_file(tmp_path, VAE | change))
    workload = spec.workload("decode")
    assert (workload.frames, workload.height, workload.width) == size
    assert spec.latent.shape(1, workload) == latent
    with pytest.raises(UserError, match="image model"):
        spec.workload("decode", frames=16)


def test_stable_diffusions_vae_by_its_config_is_as_in_the_catalog(tmp_path: Path) -> None:
    known = catalog_model("sd1.5")
    assert known.vae is not None
    config = known.vae.config | {"_class_name": "AutoencoderKL"}
    spec, stack = find_model(config_file(tmp_path, config)), assumed_stack(find_gpu("rtx-4090"), "2.13.0")
    alone, whole = (estimate(one.workload("decode", dtype="fp16"), one, stack) for one in (spec, known))
    assert alone.peak == whole.peak
    assert f"{alone.peak.allocated_bytes / MIB:.1f}" == "783.0"


def test_what_models_of_a_class_differ_in_is_nobodys() -> None:
    """FLUX.1 dev takes 512 tokens and schnell 256: the length of the text, a size, is asked for. SD3's are of one length."""
    flux = find_model("FluxTransformer2DModel")
    assert flux.default is None
    with pytest.raises(UserError, match="--height, --width, --text-length"):
        flux.workload("denoise")
    assert find_model("SD3Transformer2DModel").text == catalog_model("sd3-medium").text


def test_a_class_of_several_models_whose_defaults_do_not_build_names_them() -> None:
    with pytest.raises(ModelError, match=r"config\.json; catalog models of this class: easyanimate-v5.1-12b-inp, "):
        read_class("EasyAnimateTransformer3DModel")


def test_a_class_without_defaults_takes_a_catalog_models_config() -> None:
    assert read_class("LatteTransformer3DModel").denoiser is not None


@pytest.mark.parametrize(
    ("name", "message"), [("AutoencoderKLNone", "no model class"), ("missing/config.json", "No such file")]
)
def test_what_is_not_there(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_model(name)


def test_a_config_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="_class_name"):
        find_model(config_file(tmp_path, {"hidden_size": 3}))
