"""The estimate as a whole: published peaks, terms that add up, and what it must say where it does not know."""

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import profiler
from profiler.allocator.histories import allocator_of
from profiler.allocator.replay import Replay
from profiler.data.memory import TERMS
from profiler.data.records import CallEstimate, Estimate
from profiler.data.stack import Stack
from profiler.data.units import MIB
from profiler.data.workload import STAGES, MemoryOptions, StageName
from profiler.errors import UserError
from profiler.estimation.answer import Traced, answer
from profiler.estimation.estimator import estimate, estimate_with_events, trace_stage
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.models.find import find_model

GIB = 1 << 30
MODELS = ("wan2.1-t2v-14b", "ltx-video-2b", "cogvideox-5b", "hunyuan-video", "qwen-image", "sdxl", "flux.1-dev")
TINY = Path(__file__).parent.parent / "models"


def on(gpu: str, model: str, stage: StageName = "decode", torch: str | None = None, **size: Any) -> Estimate:
    return profiler.estimate(model, stage, gpu=gpu, torch=torch, **size)


@pytest.mark.parametrize(
    ("stage", "side", "published_gib"), [("decode", 512, 1.274), ("decode", 1024, 4.369), ("encode", 1024, 2.879)]
)
def test_published_peaks_of_the_qwen_image_vae(stage: StageName, side: int, published_gib: float) -> None:
    """max_memory_allocated, fp16, RTX 4090, torch 2.7.1+cu128, diffusers classes: invoke-ai/InvokeAI PR 9305."""
    found = on("rtx-4090", "qwen-image", stage, "2.7.1", cudnn=90701, dtype="fp16", height=side, width=side)
    assert found.peak.allocated_bytes is not None
    assert abs(found.peak.allocated_bytes / GIB - published_gib) <= 0.0006  # the figure is printed to 0.001


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("model", MODELS)
def test_terms_add_up_for_every_model_and_stage(model: str, stage: StageName) -> None:
    found = on("h200", model, stage)
    parts = [getattr(found.terms, name) for name in TERMS[:5]]
    assert sum(parts) == found.peak.allocated_bytes
    assert found.terms.cached is not None
    assert found.peak.allocated_bytes + found.terms.cached == found.peak.reserved_bytes
    assert found.baseline.allocated_bytes <= found.peak.allocated_bytes
    assert found.terms.weights + found.terms.inputs == found.baseline.allocated_bytes
    assert len(found.largest) == min(10, len(found.largest))
    assert sum(item.bytes for item in found.largest) <= found.peak.allocated_bytes
    assert [item.bytes for item in found.largest] == sorted((item.bytes for item in found.largest), reverse=True)


def test_weights_cost_at_least_their_elements() -> None:
    found = on("h200", "wan2.1-t2v-1.3b", "denoise")
    assert found.terms.weights is not None
    assert 1_418_996_800 * 2 < found.terms.weights < 1_418_996_800 * 2 * 1.01


def test_the_latent_is_a_thousandth_of_the_peak() -> None:
    found = on("h200", "wan2.1-t2v-14b", "decode")
    assert found.latent["latent_shape"] == (1, 16, 21, 90, 160)
    assert found.latent["memory_bytes"] * 500 < found.peak.allocated_bytes


def test_unknown_is_null_with_a_reason() -> None:
    found = on("a100", "sd1.5")
    assert found.peak.device_bytes is None
    assert found.terms.context is None
    assert "not measured" in found.notes["peak.device_bytes"]
    assert "not measured" in found.notes["terms.context"]


def test_a_known_context_makes_device_bytes() -> None:
    spec = find_model("sd1.5")
    stack = on("h200", "sd1.5").stack
    found = estimate(spec.workload("decode"), spec, stack, context_bytes=500)
    assert found.peak.reserved_bytes is not None
    assert found.peak.device_bytes == found.peak.reserved_bytes + 500


def test_fits_or_not() -> None:
    assert on("h200", "wan2.1-t2v-14b").fits is True
    small = on("rtx-4090", "wan2.1-t2v-14b")
    assert small.fits is False
    assert "no room for" in small.notes["fits"]


def test_fits_speaks_for_every_call_and_says_the_first_apart() -> None:
    """Dry CUDA on a card of so much memory, whose context takes 512 MiB: see tests/allocator/test_full_card.py."""
    spec = find_model("sdxl")
    workload = spec.workload("decode", height=888, width=1184, dtype="bf16")
    watched = trace_stage(workload, spec, assumed_stack(find_gpu("h200"), "2.13.0"))
    traced = Traced(watched.trace, watched.trace.routes, {}, watched.output_shapes)

    def on_card(mib: int) -> CallEstimate:
        stack = assumed_stack(find_gpu("h200"), "2.13.0")
        return answer(traced, traced.on(replace(stack, device_total_bytes=mib * MIB), 512 * MIB), started=0)

    small, smaller, full, roomy = map(on_card, (2632, 2200, 4000, 8000))
    assert (small.fits, small.first_call_fits) == (False, True)
    assert small.notes["fits"].startswith("the first call gets through, the next does not: no room for 538,312,704 B")
    assert (smaller.fits, smaller.first_call_fits) == (False, False)
    assert (full.fits, full.first_call_fits) == (True, True)
    assert "giving cached segments back (first call: 1 times, a later one: at most 0)" in full.notes["fits"]
    assert full.peak.reserved_bytes == full.warm.reserved_bytes == 3426 * MIB  # type: ignore[union-attr]
    assert full.terms.cached == 3426 * MIB - full.peak.allocated_bytes  # type: ignore[operator]
    assert roomy.peak == roomy.roomy == full.roomy == small.roomy == small.peak
    assert roomy.peak.reserved_bytes > 4400 * MIB  # type: ignore[operator]
    assert roomy.safe_reserved_bytes == full.safe_reserved_bytes >= roomy.peak.reserved_bytes  # type: ignore[operator]


def test_the_context_takes_room_from_what_fits() -> None:
    spec = find_model("tests/models/tiny-image.yaml")
    workload, stack = spec.workload("decode", height=512, width=512), assumed_stack(find_gpu("h200"))
    peak = estimate(workload, spec, stack).peak
    assert peak.reserved_bytes is not None
    full = replace(stack, device_total_bytes=peak.reserved_bytes)
    assert estimate(workload, spec, full, context_bytes=0).fits
    assert estimate(workload, spec, full, context_bytes=peak.reserved_bytes // 2).fits is False
    roomy = replace(stack, device_total_bytes=peak.reserved_bytes + 1000)
    assert estimate(workload, spec, roomy, context_bytes=1000).fits
    unknown = estimate(workload, spec, replace(stack, device_total_bytes=peak.reserved_bytes + 512 * MIB))
    assert (unknown.fits, unknown.verdict) == (
        False,
        "does not fit",
    )  # a context may take 0.55 GiB, where nobody measured
    assert "563.0 MiB of CUDA context, the most that users report" in unknown.notes["capacity"]


def test_what_is_kept_free_and_other_pasts_take_room_too() -> None:
    """One estimate on cards of more and more memory does not fit, then fits but just, then fits."""
    spec = find_model("tests/models/tiny-image.yaml")
    workload = spec.workload("decode", height=512, width=512)
    stack = assumed_stack(replace(find_gpu("h200"), reserve_bytes=100 * MIB), "2.13.0")
    needed = estimate(workload, spec, stack)
    assert needed.capacity_bytes == stack.device_total_bytes - (563 + 100) * MIB  # type: ignore[operator]
    assert "100.0 MiB kept free" in needed.notes["capacity"]
    assert needed.safe_reserved_bytes is not None

    def on_card(room: int) -> Estimate:
        return estimate(workload, spec, replace(stack, device_total_bytes=room + 100 * MIB), context_bytes=0)

    none, little = on_card(needed.peak.allocated_bytes // 2), on_card(needed.safe_reserved_bytes - MIB)  # type: ignore[operator]
    enough = on_card(needed.safe_reserved_bytes)
    assert [(found.verdict, found.fits) for found in (none, little, enough)] == [
        ("does not fit", False),
        ("tight", True),
        ("fits", True),
    ]
    assert "crawl" in none.notes["fits"]
    assert "a process of another past may reserve 158.0 MiB, 1.0 MiB more than there is" in little.notes["fits"]
    assert "fits" not in enough.notes


def test_tiling_saves_and_an_ignored_option_is_said() -> None:
    plain = on("h200", "wan2.1-t2v-1.3b", frames=5)
    tiled = on("h200", "wan2.1-t2v-1.3b", frames=5, options=MemoryOptions(tiling=True))
    assert tiled.peak.allocated_bytes < plain.peak.allocated_bytes
    assert tiled.options["tiling"].applied
    with pytest.raises(
        UserError, match="framewise: cannot be applied: AutoencoderKLWan has no framewise switch; leave it"
    ):
        on("h200", "wan2.1-t2v-1.3b", frames=5, options=MemoryOptions(framewise=True))


def test_channels_last_needs_no_staging() -> None:
    """Flux VAE, 1024x1024, bf16 on Hopper: 2632 MiB against 1990."""
    plain = on("h200", "flux.1-dev")
    last = on("h200", "flux.1-dev", options=MemoryOptions(channels_last=True))
    assert plain.peak.allocated_bytes / (1 << 20) == pytest.approx(2632, abs=1)
    assert last.peak.allocated_bytes / (1 << 20) == pytest.approx(1990, abs=1)


def test_pinned_math_attention_holds_the_score_matrix() -> None:
    fused = on("h200", "flux.1-dev", "denoise")
    math = on("h200", "flux.1-dev", "denoise", options=MemoryOptions(attention="math"))
    assert math.routes == {"attention math": 57}
    scores = 24 * (4096 + 512) ** 2 * 4
    assert math.peak.allocated_bytes > fused.peak.allocated_bytes + scores


def test_torch_2_9_needs_more() -> None:
    old, new = (on("rtx-4090", "qwen-image", torch=v, dtype="bf16") for v in ("2.9.0", "2.11.0"))
    assert old.routes["convolution vol2col"] > 0
    assert old.peak.allocated_bytes > 1.8 * new.peak.allocated_bytes


def test_the_cpu_estimate_covers_tensors_only() -> None:
    spec = find_model(str(TINY / "tiny-image.yaml"))
    found = estimate(spec.workload("decode"), spec, Stack(device="cpu", torch="2.13.0"))
    assert found.terms.workspace is None
    assert found.peak.reserved_bytes is None
    for field in ("terms.workspace", "peak.reserved_bytes", "peak.device_bytes", "terms.cached", "terms.context"):
        assert found.notes[field]


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 2))
def test_more_pixels_frames_or_batch_never_need_fewer_bytes(k: int, height: int, width: int, batch: int) -> None:
    model = str(TINY / "tiny-video.yaml")

    def peak(**size: int) -> int:
        base = {"frames": 4 * k + 1, "height": 16 * height, "width": 16 * width, "batch": batch}
        found = on("h200", model, **(base | size))
        assert found.peak.allocated_bytes is not None
        return found.peak.allocated_bytes

    smallest = peak()
    assert smallest <= peak(frames=4 * k + 5)
    assert smallest <= peak(height=16 * height + 16)
    assert smallest <= peak(width=16 * width + 16)
    assert smallest <= peak(batch=batch + 1)


def test_the_same_estimate_twice() -> None:
    first, second = (on("h200", "ltx-video-2b") for _ in range(2))
    assert (first.peak, first.terms, first.events) == (second.peak, second.terms, second.events)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gpu": "h300"}, "no card 'h300'.*did you mean 'h[12]00'"),
        ({"torch": "1.13"}, "torch: expected a release"),
    ],
)
def test_a_stack_that_is_not_known(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        profiler.estimate("sd1.5", **arguments)


def test_weights_are_alive_at_the_end_of_the_events_so_that_a_later_call_can_be_replayed_from_them() -> None:
    spec = find_model(str(TINY / "tiny-image.yaml"))
    stack = assumed_stack(find_gpu("h200"), "2.13.0")
    found, events = estimate_with_events(spec.workload("decode"), spec, stack)
    gc.collect()
    assert {block.died for block in events.blocks if block.term == "weights"} == {None}
    assert len(events.events) == found.events
    assert Replay(events, allocator_of(stack)).again() == replace(found.warm, device_bytes=None)
