"""One class alone: contracts read off shapes, inputs found by name, and what cannot be found is asked for by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from profiler.data.stack import Stack
from profiler.errors import UserError
from profiler.estimation.estimator import estimate
from profiler.models.build import build, component_class
from profiler.models.catalog import catalog_model
from profiler.models.component import read_class, read_component
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


@pytest.mark.parametrize("model", ["sd1.5", "taesd", "dc-ae-f128c512", "flux.2-dev", "ltx-video-2b"])
def test_a_contract_found_is_the_catalogs(model: str) -> None:
    spec = catalog_model(model)
    assert spec.vae is not None
    module = build(component_class(spec.vae.class_name), spec.vae.config, torch.bfloat16).to("meta")
    found = find_contract(module)
    ours = spec.latent.model_copy(update={"patch": found.patch})
    assert found == ours


def test_a_config_file_runs_as_with_data(tmp_path: Path) -> None:
    """The derived contract and inputs are those with which the class runs on real tensors."""
    spec = find_model(config_file(tmp_path, BRIA))
    assert spec.denoiser is not None
    assert set(spec.denoiser.inputs) == {
        "hidden_states", "encoder_hidden_states", "timestep", "img_ids", "txt_ids",
    } | ({"pooled_projections"} & set(spec.denoiser.inputs))  # fmt: skip
    workload = spec.workload("denoise", height=64, width=64)
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


def test_the_nearest_catalog_model_lends_what_a_config_does_not_say() -> None:
    spec = read_component("AutoencoderKLWan", {"z_dim": 8, "base_dim": 16})
    assert (spec.latent.channels, spec.latent.frame_rule, spec.latent.layout) == (8, "4k+1", "BCTHW")
    assert spec.denoiser is None
    assert "catalog model" in spec.sources[""]


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
