"""Modules are as `from_pretrained(torch_dtype=...)` leaves them, and a folder on disk works like a catalog model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from profiler.errors import ModelError, UserError
from profiler.models.build import build, component_class, materialize
from profiler.models.find import find_model
from profiler.models.spec import Component, ModelSpec
from profiler.stages.stage import Stage

TINY = Path(__file__).parent
MODELS = ("tiny-image", "tiny-video")


@pytest.fixture(params=MODELS)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return find_model(str(TINY / f"{request.param}.yaml"))


@pytest.fixture
def folder(spec: ModelSpec, tmp_path: Path) -> Path:
    """The tiny model as diffusers saves a pipeline."""
    index = {"_class_name": "SomePipeline", "_diffusers_version": diffusers.__version__}
    assert spec.denoiser is not None
    for component in (spec.vae, spec.denoiser):
        module = component_class(component.class_name).from_config(component.config)
        module.save_pretrained(tmp_path / component.subfolder)
        index[component.subfolder] = ["diffusers", component.class_name]  # type: ignore[assignment]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    return tmp_path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_dtypes_are_those_of_from_pretrained(spec: ModelSpec, folder: Path, dtype: torch.dtype) -> None:
    assert spec.denoiser is not None
    for component in (spec.vae, spec.denoiser):
        cls = component_class(component.class_name)
        loaded = cls.from_pretrained(folder, subfolder=component.subfolder, torch_dtype=dtype)
        assert describe(build(cls, component.config, dtype)) == describe(loaded)


def built(component: Component, dtype: torch.dtype) -> torch.nn.Module:
    return build(component_class(component.class_name), component.config, dtype)


def describe(module: torch.nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors}


def test_some_modules_stay_in_fp32() -> None:
    spec = find_model(str(TINY / "tiny-video.yaml"))
    assert spec.denoiser is not None
    dtypes = {name: p.dtype for name, p in built(spec.denoiser, torch.bfloat16).named_parameters()}
    assert dtypes["condition_embedder.time_embedder.linear_1.weight"] == torch.float32
    assert dtypes["blocks.0.ffn.net.0.proj.weight"] == torch.bfloat16


def test_parameters_have_no_bytes_until_materialized(spec: ModelSpec) -> None:
    module = built(spec.vae, torch.float32)
    assert all(parameter.is_meta for parameter in module.parameters())
    materialize(module, torch.device("cpu"))
    assert not any(parameter.is_meta for parameter in module.parameters())
    assert all(parameter.abs().max() > 0 for parameter in module.parameters())


def test_default_dtype_is_restored(spec: ModelSpec) -> None:
    built(spec.vae, torch.bfloat16)
    assert torch.get_default_dtype() == torch.float32


def test_a_folder_is_described_like_its_catalog_model(spec: ModelSpec, folder: Path) -> None:
    found = find_model(str(folder))
    assert found.latent.channels == spec.latent.channels
    assert found.latent.spatial_compression == spec.latent.spatial_compression
    assert found.denoiser is not None
    assert spec.denoiser is not None
    assert found.denoiser.class_name == spec.denoiser.class_name
    if "sample_size" in spec.denoiser.config:  # in positions of the latents, as pipelines take it
        side = spec.denoiser.config["sample_size"] * spec.latent.spatial_compression
        assert (found.workload("decode").height, found.workload("decode").frames) == (side, 1)
    else:
        with pytest.raises(UserError, match="no published size for stage decode: give --frames, --height, --width"):
            found.workload("decode")


def test_real_weights_are_loaded_from_a_folder(folder: Path) -> None:
    spec = find_model(str(folder))
    frames = 1 if spec.latent.frame_rule == "image" else 5
    workload = spec.workload("decode", frames=frames, height=32, width=32, dtype="fp32")
    stage = Stage(workload, spec, weights=True)
    saved = component_class(spec.vae.class_name).from_pretrained(folder, subfolder="vae")
    name, first = next(iter(saved.named_parameters()))
    stage.load(torch.device("cpu"))
    assert torch.equal(dict(stage.module.named_parameters())[name], first)


def test_a_folder_without_an_index(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model_index.json"):
        find_model(str(tmp_path))


def test_a_class_that_diffusers_lacks() -> None:
    with pytest.raises(UserError, match="no model class 'AutoencoderKLNowhere'"):
        component_class("AutoencoderKLNowhere")


def test_a_config_that_the_class_rejects(spec: ModelSpec) -> None:
    wrong = replace(spec.vae, config={"down_block_types": ["Nowhere"], "dim_mult": 3, "base_dim": "x"})
    with pytest.raises(ModelError, match="rejects its config"):
        built(wrong, torch.float32)


def test_large_position_tables_take_no_host_memory() -> None:

    config = {"sample_size": 32, "num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 64}
    sizes = {"joint_attention_dim": 32, "caption_projection_dim": 128, "pooled_projection_dim": 32}
    for side, is_meta in ((32, False), (192, True)):
        module = build(diffusers.SD3Transformer2DModel, config | sizes | {"pos_embed_max_size": side}, torch.bfloat16)
        assert module.pos_embed.pos_embed.is_meta is is_meta
        assert module.pos_embed.pos_embed.shape == (1, side * side, 128)


def test_nothing_is_drawn_for_weights_without_data() -> None:
    """Torch draws on `meta` by operations in Python, which takes as long as all the rest of a build."""
    drawn = []

    class Draws(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if torch.Tag.nondeterministic_seeded in func.tags and args[0].is_meta:
                drawn.append(func)
            return func(*args, **(kwargs or {}))

    from transformers import CLIPTextConfig, CLIPTextModel

    with Draws():
        text = build(CLIPTextModel, CLIPTextConfig(num_hidden_layers=1, hidden_size=16).to_dict(), torch.float32)
        vae = built(find_model(str(TINY / "tiny-image.yaml")).component("decode"), torch.float32)
        assert not drawn
        assert {tensor.device.type for module in (text, vae) for tensor in module.parameters()} == {"meta"}
        assert torch.empty(9).uniform_(1, 2).min() >= 1
        torch.empty(9, device="meta").uniform_()
    assert drawn
