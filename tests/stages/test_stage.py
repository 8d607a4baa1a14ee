"""One callable, any device: shapes by the contract, inference mode, the patch embedding alone."""

from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

from profiler.data.records import Estimate
from profiler.data.workload import STAGES, MemoryOptions, StageName
from profiler.errors import ModelError, UserError
from profiler.estimation.estimator import estimate
from profiler.machine.target import target_stack
from profiler.models.find import find_model
from profiler.models.spec import ModelSpec, Size
from profiler.stages.stage import Stage
from tests.models.small import shallow, small_size, unique_calls

TINY = Path(__file__).parents[1] / "models"


def ready(model: str, stage: StageName, device: str, **size: Any) -> Stage:
    spec = find_model(model)
    built = Stage(spec.workload(stage, **size), spec)
    built.load(torch.device(device))
    built.make_inputs(torch.device(device))
    return built


def traced(spec: ModelSpec, stage: StageName) -> Estimate:
    """The stage at a small size; fake tensors stand in where a class fails on `meta`."""
    return estimate(spec.workload(stage, **small_size(spec)), spec, target_stack("h200", None, None)[0])


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("model", ["tiny-image", "tiny-video"])
@pytest.mark.parametrize("batch", [1, 2])
def test_runs_on_the_cpu_with_real_tensors(model: str, stage: StageName, batch: int) -> None:
    built = ready(str(TINY / f"{model}.yaml"), stage, "cpu", batch=batch)
    output = built()
    built.check_output(output)
    assert output.device.type == "cpu"
    assert output.is_inference()
    assert torch.isfinite(output).all()
    assert output.shape[0] == batch


def test_a_patch_embedding_that_stays_in_fp32_gets_inputs_of_its_dtype() -> None:
    """MiniMax-H3's code casts what it gives to its projection, which diffusers keeps in fp32."""
    assert (
        ready("minimax-h3", "patch-embed", "cpu", dtype="fp16", frames=5, height=64, width=64)().dtype == torch.float32
    )


@pytest.mark.parametrize("model", unique_calls("vae"))
def test_every_vae_keeps_its_contract_without_data(model: str) -> None:
    """A roundtrip checks the latents on its way, and the pixels that come back."""
    spec = find_model(model)
    found = traced(spec, "roundtrip")
    assert found.output_shapes == (spec.latent.decoded_shape(1, Size(**small_size(spec))),)


@pytest.mark.parametrize("model", unique_calls("denoiser"))
def test_every_denoiser_gives_latents_back_and_embeds_as_many_tokens_as_the_contract_says(model: str) -> None:
    spec = shallow(model)
    size = Size(**small_size(spec))
    latents = spec.latent.channels * spec.denoiser_frames(size.frames) * prod(spec.latent.shape(1, size)[-2:])
    output = traced(spec, "denoise").output_shapes[0]
    assert prod(output) in (latents, 2 * latents)  # some predict a variance beside the noise
    if isinstance(spec.denoiser.patch_embed, str):
        with pytest.raises(UserError, match="has no stage 'patch-embed'"):
            spec.workload("patch-embed")
        return
    shapes = traced(spec, "patch-embed").output_shapes
    joined = len(shapes) == 1 and "'L'" in str(spec.denoiser.patch_embed.inputs)  # its embedding takes the text in
    positions = spec.tokens(size) + (spec.text.length if joined and spec.text else 0)
    assert any(prod(shapes[0]) == positions * width for width in shapes[0])


def test_roundtrip_gives_the_clip_back_in_shape() -> None:
    for model in ("tiny-image", "tiny-video"):
        stage = ready(str(TINY / f"{model}.yaml"), "roundtrip", "cpu")
        assert tuple(stage().shape) == stage.spec.latent.pixel_shape(1, stage.workload)


def test_patch_embed_materialises_that_submodule_alone() -> None:
    stage = ready("wan2.1-t2v-14b", "patch-embed", "cpu", frames=1, height=32, width=32)
    assert sum(p.numel() for p in stage.module.parameters()) == 332_800
    assert stage().shape == (1, 5120, 1, 2, 2)


def test_a_wrong_shape_is_an_error_that_names_the_contract() -> None:
    stage = ready(str(TINY / "tiny-image.yaml"), "decode", "cpu")
    with pytest.raises(ModelError, match=r"gave shape \(1, 3, 8, 8\), the contract says \(1, 3, 32, 32\)"):
        stage.check_output(torch.zeros(1, 3, 8, 8))


def test_a_workload_of_another_size_is_refused_before_anything_is_built() -> None:
    spec = find_model("wan2.1-t2v-14b")
    workload = spec.workload("decode")
    object.__setattr__(workload, "frames", 80)
    with pytest.raises(UserError, match="4k"):
        Stage(workload, spec)


@pytest.mark.parametrize("attention", ["math", "flash"])
def test_pinned_attention_runs(attention: Any) -> None:
    stage = ready(str(TINY / "tiny-image.yaml"), "decode", "cpu", options=MemoryOptions(attention=attention))
    assert torch.isfinite(stage()).all()
