"""An option is reported as applied only where it does something; absent, refused and unread switches are said."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import nn

from profiler.data.records import AppliedOption
from profiler.data.workload import MemoryOptions, Workload
from profiler.errors import ModelError, UserError
from profiler.models.find import find_model
from profiler.models.spec import LatentContract
from profiler.stages.options import apply_options
from profiler.stages.stage import Stage

TINY = str(Path(__file__).parents[1] / "models" / "tiny-video.yaml")
MOCHI = {
    "encoder_block_out_channels": (32, 32, 32, 32),
    "decoder_block_out_channels": (32, 32, 32, 32),
    "layers_per_block": (1, 1, 1, 1, 1),
    "latent_channels": 4,
}


CONTRACT = LatentContract(
    layout="BCTHW", channels=4, spatial_compression=8, temporal_compression=4, frame_rule="any", normalization="none"
)


def workload(options: MemoryOptions, batch: int = 1, side: int = 512, frames: int = 1) -> Workload:
    return Workload(model="x", stage="decode", frames=frames, height=side, width=side, batch=batch, options=options)


def apply(module: nn.Module, name: str, side: int = 512, frames: int = 1, **values: object) -> AppliedOption:
    options = MemoryOptions(**{name: True}, **values)  # type: ignore[arg-type]
    return apply_options(module, workload(options, side=side, frames=frames), CONTRACT)[name]


def refused(module: nn.Module, name: str, **values: object) -> str:
    """Why an option cannot be applied, read from the error."""
    with pytest.raises(UserError, match="cannot be applied") as error:
        apply(module, name, **values)  # type: ignore[arg-type]
    return str(error.value)


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
    assert "never reads use_tiling" in refused(module, "tiling")


def test_tiling_that_the_class_refuses_is_not_applied() -> None:
    module = on_meta("AutoencoderKLTemporalDecoder", block_out_channels=(32, 32))
    assert "AutoencoderKLTemporalDecoder refuses" in refused(module, "tiling")


def test_tiling_without_a_method_is_not_applied() -> None:
    assert refused(nn.Linear(1, 1), "tiling") == "tiling: cannot be applied: Linear has no enable_tiling; leave it out"


def kl(name: str = "AutoencoderKL") -> nn.Module:
    return on_meta(name, block_out_channels=(8,) * 4, down_block_types=("DownEncoderBlock2D",) * 4, norm_num_groups=4,
                   up_block_types=("UpDecoderBlock2D",) * 4, sample_size=512)  # fmt: skip


@pytest.mark.parametrize("name", ["AutoencoderKL", "AutoencoderKLFlux2"])
def test_a_tile_size_reaches_classes_whose_sizes_are_attributes(name: str) -> None:
    module = kl(name)
    assert apply(module, "tiling", tile=(256, 256)).detail == "on, tiles of 256x256 px"
    assert (module.tile_sample_min_size, module.tile_latent_min_size, module.tile_overlap_factor) == (256, 32, 0.25)
    apply(module, "tiling", tile=(256, 256), tile_stride=(64, 64))
    assert (module.tile_sample_min_size, module.tile_overlap_factor) == (256, 0.75)


def test_sizes_in_latents_follow_where_the_class_forgets_them() -> None:
    """HunyuanVideo 1.5's own `enable_tiling(tile_sample_min_height=...)` leaves those in latents, which decide."""
    module = on_meta("AutoencoderKLHunyuanVideo15")
    apply(module, "tiling", tile=(128, 64))
    assert (module.tile_latent_min_height, module.tile_latent_min_width) == (16, 8)


def test_tile_sizes_that_a_class_cannot_have() -> None:
    assert "square tiles only" in refused(kl(), "tiling", tile=(256, 128))
    assert "one overlap factor for both sides" in refused(kl(), "tiling", tile=(256, 256), tile_stride=(64, 128))
    assert "100 px are no whole number of latents: a multiple of 8" in refused(kl(), "tiling", tile=(100, 100))
    assert "leave gaps between AutoencoderKL's tiles of 512 px" in refused(kl(), "tiling", tile_stride=(640, 640))
    assert "AutoencoderKL cuts no clip" in refused(kl(), "tiling", tile_frames=16)
    assert "takes no tile size" in refused(nn.Linear(1, 1), "tiling", tile=(64, 64))
    assert "Linear takes no tile size" in refused(nn.Linear(1, 1), "tiling", tile_stride=(64, 64))


@pytest.mark.parametrize("stride", range(8, 257, 8))
def test_every_whole_stride_can_be_had_by_an_overlap_factor(stride: int) -> None:
    module: Any = kl()
    apply(module, "tiling", tile=(256, 256), tile_stride=(stride, stride))
    factor = module.tile_overlap_factor
    assert (int(32 * (1 - factor)) * 8, 256 - int(256 * factor)) == (stride, stride)


def test_a_stride_reaches_classes_that_step_or_overlap() -> None:
    wan = on_meta("AutoencoderKLWan", base_dim=8, z_dim=4)
    assert apply(wan, "tiling", tile=(256, 256), tile_stride=(64, 128)).applied
    assert (wan.tile_sample_stride_height, wan.tile_sample_stride_width) == (64, 128)
    minimax = on_meta("AutoencoderKLMiniMaxH3")
    apply(minimax, "tiling", tile=(256, 128), tile_stride=(64, 128))
    assert (minimax.tile_sample_min_overlap_height, minimax.tile_sample_min_overlap_width) == (192, 0)


def test_tiles_of_frames() -> None:
    hunyuan = on_meta("AutoencoderKLHunyuanVideo", block_out_channels=(32,) * 4)
    options = MemoryOptions(tiling=True, tile_frames=32)
    applied = apply_options(hunyuan, workload(options, frames=65), CONTRACT)
    assert applied["tile_frames"].detail == "tiles of 32 frames"
    assert (hunyuan.tile_sample_min_num_frames, hunyuan.tile_sample_stride_num_frames) == (32, 24)
    assert "without effect" in apply_options(hunyuan, workload(options, frames=29), CONTRACT)["tile_frames"].detail
    ltx = on_meta("AutoencoderKLLTXVideo")
    assert "only with --framewise" in refused(ltx, "tiling", tile_frames=32)
    assert apply(ltx, "tiling", tile_frames=32, framewise=True).applied
    assert "cuts no clip" in refused(on_meta("AutoencoderKLWan", base_dim=8, z_dim=4), "tiling", tile_frames=32)


@pytest.mark.parametrize(
    "options", [{"tile": (32, 32)}, {"tile": (32, 32), "tile_stride": (16, 16)}, {"tile_stride": (16, 16)}]
)
def test_tiles_are_what_the_decoder_sees_and_the_output_is_whole(options: dict[str, Any]) -> None:
    """tiny-image's own tiles are 32 pixels, 16 latents; without tiling the decoder sees 32x32 latents at once."""
    spec = find_model(str(Path(TINY).with_name("tiny-image.yaml")))
    asked = spec.workload("decode", height=64, width=64, options=MemoryOptions(tiling=True, **options))
    stage = Stage(asked, spec)
    seen = []
    stage.module.decoder.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[-2:])))
    run_on_meta(stage)
    step = (options.get("tile_stride") or (24, 24))[0] // 2
    assert max(seen) == (16, 16)
    assert len(seen) == len(range(0, 32, step)) ** 2


def test_slicing_of_one_item_has_no_effect_and_says_so() -> None:
    module = on_meta("AutoencoderKL", block_out_channels=(32,))
    one, two = (
        apply_options(module, workload(MemoryOptions(slicing=True), batch=batch), CONTRACT)["slicing"]
        for batch in (1, 2)
    )
    assert "without effect" in one.detail
    assert two == AppliedOption(applied=True, detail="on")


def test_framewise_without_a_switch_is_not_applied() -> None:
    assert "has no framewise switch" in refused(kl(), "framewise")


def test_channels_last_changes_the_weights() -> None:
    module = diffusers.AutoencoderKLWan(base_dim=8, z_dim=4)
    assert apply(module, "channels_last").applied
    weight = module.decoder.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert "no convolution weights" in refused(nn.Linear(1, 1), "channels_last")
    assert "no convolution weights" in refused(nn.Linear(1, 1), "benchmark")


def test_autocast_of_16_bit_weights_is_not_applied() -> None:
    asked = workload(MemoryOptions(autocast="fp16", slicing=True))  # bf16 weights
    with pytest.raises(
        UserError, match=r"slicing: cannot be .*; autocast: cannot be applied: weights are bf16 already"
    ):
        apply_options(nn.Conv2d(1, 1, 1), asked, CONTRACT)


def test_an_option_that_breaks_the_output_is_an_error() -> None:
    """Mochi's framewise decoding gives the wrong shape in diffusers 0.42, or fails: it must not pass as applied."""
    spec = find_model(TINY)
    latent = replace(spec.latent, channels=4, frame_rule="6k+1", temporal_compression=6)
    vae = replace(spec.vae, class_name="AutoencoderKLMochi", config=MOCHI)
    spec = replace(spec, vae=vae, contract=latent)
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
