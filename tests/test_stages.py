"""One callable, any device: shapes by the contract, inference mode, the patch embedding alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from profiler.errors import ModelError, UserError
from profiler.models.catalog import catalog
from profiler.models.find import find_model
from profiler.stages import Stage
from profiler.workload import STAGES, MemoryOptions, StageName

TINY = Path(__file__).parent / "models"


def ready(model: str, stage: StageName, device: str, **size: Any) -> Stage:
    spec = find_model(model)
    built = Stage(spec.workload(stage, **size), spec)
    built.load(torch.device(device))
    built.make_inputs(torch.device(device))
    return built


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


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("model", catalog())
def test_every_catalog_model_runs_at_its_published_size_without_data(model: str, stage: StageName) -> None:
    built = ready(model, stage, "meta")
    output = built()
    built.check_output(output)
    if stage == "denoise":
        latents = next(iter(built.inputs.values()))
        assert output.shape == latents.shape


def test_roundtrip_gives_the_clip_back_in_shape_and_unscale_inverts_scale() -> None:
    for model in ("tiny-image", "tiny-video"):
        stage = ready(str(TINY / f"{model}.yaml"), "roundtrip", "cpu")
        assert tuple(stage().shape) == stage.pixel_shape
        latents = torch.randn(stage.latent_shape)
        torch.testing.assert_close(stage._unscale(stage._scale(latents)), latents)


def test_scale_follows_the_contract() -> None:
    stage = ready(str(TINY / "tiny-video.yaml"), "roundtrip", "cpu")
    mean, std = ([-0.7, 0.1, -0.9, 0.2], [2.8, 1.4, 2.3, 2.6])
    scaled = stage._scale(torch.zeros(stage.latent_shape))
    torch.testing.assert_close(scaled[0, :, 0, 0, 0], -torch.tensor(mean) / torch.tensor(std))
    image = ready(str(TINY / "tiny-image.yaml"), "roundtrip", "cpu")
    torch.testing.assert_close(image._scale(torch.ones(image.latent_shape)), torch.full(image.latent_shape, 0.18215))


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
