"""An option is reported as applied only where it does something; absent, refused and unread switches are said."""

from pathlib import Path

import diffusers
import pytest
import torch
from torch import nn

from profiler.data.records import AppliedOption
from profiler.data.workload import MemoryOptions, Workload
from profiler.errors import ModelError
from profiler.models.find import find_model
from profiler.stages.options import apply_options
from profiler.stages.stage import Stage

TINY = str(Path(__file__).parents[1] / "models" / "tiny-video.yaml")
MOCHI = {
    "encoder_block_out_channels": (32, 32, 32, 32),
    "decoder_block_out_channels": (32, 32, 32, 32),
    "layers_per_block": (1, 1, 1, 1, 1),
    "latent_channels": 4,
}


def workload(options: MemoryOptions, batch: int = 1, side: int = 512) -> Workload:
    return Workload(model="x", stage="decode", frames=1, height=side, width=side, batch=batch, options=options)


def apply(module: nn.Module, name: str, side: int = 512, **values: object) -> AppliedOption:
    options = MemoryOptions(**{name: True}, **values)  # type: ignore[arg-type]
    return apply_options(module, workload(options, side=side))[name]


def on_meta(name: str, **config: object) -> nn.Module:
    with torch.device("meta"):
        module: nn.Module = getattr(diffusers, name)(**config)
    return module


def test_tiling_is_applied_and_read_back() -> None:
    module = on_meta("AutoencoderKLWan", base_dim=8, z_dim=4)
    applied = apply(module, "tiling")
    assert applied.applied
    assert module.use_tiling is True
    assert "256x256" in applied.detail


def test_a_tile_size_reaches_the_class_with_its_own_overlap() -> None:
    module = on_meta("AutoencoderKLWan", base_dim=8, z_dim=4)
    assert apply(module, "tiling", tile=(128, 64)).detail == "on, tiles of 128x64 px"
    assert (module.tile_sample_min_height, module.tile_sample_stride_height) == (128, 96)
    assert (module.tile_sample_min_width, module.tile_sample_stride_width) == (64, 48)


def test_tiling_of_a_frame_within_one_tile_has_no_effect_and_says_so() -> None:
    assert "without effect" in apply(on_meta("AutoencoderKLWan", base_dim=8, z_dim=4), "tiling", side=256).detail


def test_tiling_that_the_class_never_reads_is_not_applied() -> None:
    module = on_meta("AutoencoderKLCosmos", encoder_block_out_channels=(8, 8, 8), decode_block_out_channels=(8, 8, 8))
    applied = apply(module, "tiling")
    assert not applied.applied
    assert "never reads use_tiling" in applied.detail


def test_tiling_that_the_class_refuses_is_not_applied() -> None:
    applied = apply(on_meta("AutoencoderKLTemporalDecoder", block_out_channels=(32, 32)), "tiling")
    assert not applied.applied
    assert "AutoencoderKLTemporalDecoder refuses" in applied.detail


def test_tiling_without_a_method_is_not_applied() -> None:
    assert apply(nn.Linear(1, 1), "tiling") == AppliedOption(applied=False, detail="Linear has no enable_tiling")


def test_a_tile_size_that_the_class_does_not_take_is_not_applied() -> None:
    applied = apply(on_meta("AutoencoderKL", block_out_channels=(32,)), "tiling", tile=(64, 64))
    assert not applied.applied
    assert "takes no tile size" in applied.detail


def test_slicing_of_one_item_has_no_effect_and_says_so() -> None:
    module = on_meta("AutoencoderKL", block_out_channels=(32,))
    one, two = (
        apply_options(module, workload(MemoryOptions(slicing=True), batch=batch))["slicing"] for batch in (1, 2)
    )
    assert "without effect" in one.detail
    assert two == AppliedOption(applied=True, detail="on")


def test_framewise_without_a_switch_is_not_applied() -> None:
    assert not apply(on_meta("AutoencoderKL", block_out_channels=(32,)), "framewise").applied


def test_channels_last_changes_the_weights() -> None:
    module = diffusers.AutoencoderKLWan(base_dim=8, z_dim=4)
    assert apply(module, "channels_last").applied
    weight = module.decoder.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert not apply(nn.Linear(1, 1), "channels_last").applied


def test_an_option_that_breaks_the_output_is_an_error() -> None:
    """Mochi's framewise decoding gives the wrong shape in diffusers 0.42, or fails: it must not pass as applied."""
    spec = find_model(TINY)
    latent = spec.latent.model_copy(update={"channels": 4, "frame_rule": "6k+1", "temporal_compression": 6})
    vae = spec.vae.model_copy(update={"class_name": "AutoencoderKLMochi", "config": MOCHI})
    spec = spec.model_copy(update={"vae": vae, "contract": latent})
    size = {"frames": 31, "height": 64, "width": 64}
    plain = Stage(spec.workload("decode", **size), spec)
    run_on_meta(plain)
    framewise = Stage(spec.workload("decode", options=MemoryOptions(framewise=True), **size), spec)
    with pytest.raises((ModelError, RuntimeError)):
        run_on_meta(framewise)


def run_on_meta(stage: Stage) -> None:
    meta = torch.device("meta")
    stage.load(meta)
    stage.make_inputs(meta)
    stage.check_output(stage())


def test_a_tile_size_strides_in_whole_latent_rows() -> None:
    module = on_meta("AutoencoderKLWan", base_dim=8, z_dim=4)
    apply(module, "tiling", tile=(24, 200))
    assert (module.tile_sample_stride_height, module.tile_sample_stride_width) == (16, 144)
