"""Findings on real classes, each beside the line of diffusers that makes it true."""

from collections.abc import Callable
from dataclasses import replace

from profiler.diagnosis.findings import Finding, find_all
from profiler.diagnosis.profile import Profile
from tests.diagnosis.handmade import Story


def by_rule(profile: Profile) -> dict[str, Finding]:
    return {finding.rule: finding for finding in find_all(profile)}


def test_causal_caches(tiny: Callable[..., Profile]) -> None:
    """WanResidualBlock clones the last two frames into feat_cache for the next latent frame."""
    found = by_rule(tiny("tiny-video", "decode", 64))["caches"]
    assert "not read again" in found.title  # the decode is at its last latent frame
    assert found.evidence[0].startswith("4 x 256.0 KiB  1x8x2x64x64 float32, decoder.up_blocks.3.resnets.")


def test_the_argument_that_a_caller_holds(tiny: Callable[..., Profile]) -> None:
    """WanDecoder3d.forward: `x = up_block(x, ...)` keeps the old x until the block returns."""
    found = by_rule(tiny("tiny-video", "decode", 64))["held"]
    first = found.evidence[0]
    assert "decoder.up_blocks.2.upsamplers.0.resample.1 (convolution)" in first and first.endswith("held by decoder")


def test_a_cache_of_everything(tiny: Callable[..., Profile]) -> None:
    """CogVideoXCausalConv3d with one tap in time caches `inputs[:, :, -1 + 1 :]`, the whole input, which none reads."""
    profile = tiny("tiny-causal", "decode", 32)
    found = by_rule(profile)["unread"]
    assert all("conv_y (clone)" in line or "more" in line for line in found.evidence)
    assert found.bytes > 0.25 * profile.peak


def test_convolution_workspace_is_called_copies_by_its_size(tiny: Callable[..., Profile]) -> None:
    found = by_rule(tiny("tiny-video", "decode", 64))["convolution-workspace"]
    assert "copies its NCHW input and output" in found.title
    assert found.options[0] == "channels_last"


def test_the_last_block_at_full_resolution(tiny: Callable[..., Profile]) -> None:
    found = by_rule(tiny("tiny-video", "decode", 64))["place"]
    assert found.title == "decoder.up_blocks.3 (WanUpBlock) at full resolution holds most of what the call adds"
    assert "tiling" in found.options


def test_float32_in_a_16_bit_stage() -> None:
    story = Story()
    x = story.make(1000)
    cast = story.make(2000, op="_to_copy", reads=(x,), dtype="float32")
    story.make(2000, reads=(cast,), dtype="float32")
    found = by_rule(story.profile())["upcast"]
    assert (found.bytes, found.title) == (4000, "float32 tensors in a bf16 stage, 1 of them by a cast")
    fp32 = replace(story.profile().workload, dtype="fp32")
    assert "upcast" not in by_rule(story.profile(workload=fp32))


def test_finished_pixels_and_the_join() -> None:
    story = Story()
    parts = [story.make(600, shape=(1, 3, 10, 10)) for _ in range(2)]
    story.make(1200, op="cat", reads=tuple(parts), shape=(1, 3, 20, 10))
    workload = replace(story.profile().workload, stage="decode", height=20, width=10)
    found = by_rule(story.profile(workload=workload, output_shapes=((1, 3, 20, 10),)))
    assert found["finished-pixels"].title == "finished pixels wait: 2.0 x the whole answer"
    assert found["join"].bytes == 2400


def test_small_things_are_no_findings() -> None:
    story = Story()
    story.make(10)  # never read, but a hundredth of the peak
    story.make(1000)
    assert "unread" not in by_rule(story.profile())
