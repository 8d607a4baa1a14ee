"""The allocator's settings are read as torch reads them, and reach the replay."""

from dataclasses import replace

import pytest

import profiler
from profiler.allocator.settings import MIB, AllocatorSettings, parse_settings, round_to_division, settings_of
from profiler.data.stack import Stack
from profiler.errors import UserError
from profiler.machine.cards import assumed_stack, find_gpu


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", AllocatorSettings()),
        ("expandable_segments:True", AllocatorSettings(expandable=True)),
        (
            "max_split_size_mb:64, roundup_power2_divisions:4",
            AllocatorSettings(max_split=64 * MIB, divisions=(4,) * 16),
        ),
        ("large_segment_size_mb:64,backend:native", AllocatorSettings(large_segment=64 * MIB)),
        ("garbage_collection_threshold:0.5", AllocatorSettings(threshold=0.5)),
    ],
)
def test_reads(text: str, settings: AllocatorSettings) -> None:
    assert parse_settings(text) == settings


@pytest.mark.parametrize(
    "text",
    [
        "foo", "foo:1", "max_split_size_mb", "max_split_size_mb:x", "max_split_size_mb:10", "max_split_size_mb=64",
        "max_non_split_rounding_mb:10", "large_segment_size_mb:10", "large_segment_size_mb:64,max_split_size_mb:30",
        "expandable_segments:yes", "expandable_segments:true", "expandable_segments True", ",max_split_size_mb:64",
        "max_split_size_mb:64,,backend:native", "backend:other", "garbage_collection_threshold:1.0",
        "garbage_collection_threshold:nan", "per_process_memory_fraction:1.5", "pinned_num_register_threads:3",
        "pinned_num_register_threads:256", "pinned_reserve_segment_size_mb:0", "roundup_power2_divisions:3",
        "roundup_power2_divisions:0", "roundup_power2_divisions:[256:3]", "roundup_power2_divisions:[100:2]",
        "roundup_power2_divisions:[0:4]", "roundup_power2_divisions:[256:1", "roundup_power2_divisions:[256:1,,512:2]",
    ],
)  # fmt: skip
def test_refuses_what_torch_refuses(text: str) -> None:
    """Each ended in an error of torch 2.13.0+cu130 in dry CUDA."""
    with pytest.raises(UserError, match="allocator settings"):
        parse_settings(text)


@pytest.mark.parametrize(
    "text",
    [
        "release_lock_on_cudamalloc:True", "release_lock_on_hipmalloc:True", "max_split_size_mb:64,",
        "max_split_size_mb : 64", "max_split_size_mb:64x", "max_split_size_mb:-1", "roundup_power2_divisions:[]",
        "pinned_use_background_threads:True,pinned_use_cuda_host_register:True,pinned_num_register_threads:8",
        "graph_capture_record_stream_reuse:True,throw_on_cudamalloc_oom:True,pinned_free_catch_all:True",
        "max_split_size_mb:64,max_split_size_mb:128", "max_non_split_rounding_mb:30,max_split_size_mb:40",
    ],
)  # fmt: skip
def test_takes_what_torch_takes(text: str) -> None:
    assert parse_settings(text).expandable is False


def test_what_a_release_does_not_have_yet_is_refused_with_what_it_has() -> None:
    with pytest.raises(
        UserError, match=r"torch 2\.7 has no 'per_process_memory_fraction'.* it has backend, expandable"
    ):
        parse_settings("per_process_memory_fraction:0.5", (2, 7, 1))


def test_the_drivers_own_allocator_has_no_estimate() -> None:
    with pytest.raises(UserError, match="cudaMallocAsync is not modelled: the driver keeps that pool"):
        parse_settings("backend:cudaMallocAsync")


@pytest.mark.parametrize(
    ("text", "rounded"),
    [
        ("[256:1,512:2,1024:4,>:8]", [None, None, None, None, None, 768, 1280, 2304, 5120]),
        ("[256:2,1024:4]", [0.75, 1.5, 6, 192, 384, None, 1280, None, None]),
        ("4", [0.75, 1.5, 6, 160, 320, 640, 1280, 2560, 5120]),
        ("[>:4]", [None, None, 6, 160, 320, 640, 1280, 2560, 5120]),
        ("[1:4,>:8]", [0.75, 1.5, 5.5, 144, 288, 576, 1152, 2304, 5120]),
        ("[131072:4]", [0.75, 1.5, 6, 160, 320, 640, 1280, 2560, 5120]),
    ],
)
def test_divisions_by_interval(text: str, rounded: list[float | None]) -> None:
    """What torch 2.13.0+cu130 counted as allocated in dry CUDA, in MiB; None: to 512 bytes only."""
    settings = parse_settings(f"roundup_power2_divisions:{text}")
    for mib, expected in zip((0.7, 1.3, 5.1, 130.3, 260.3, 520.3, 1040.3, 2080.3, 5000.3), rounded, strict=True):
        size = int(mib * MIB)
        assert settings.round(size) == (-(-size // 512) * 512 if expected is None else int(expected * MIB))


def test_garbage_is_collected_under_a_memory_fraction_only() -> None:
    """CUDACachingAllocator.cpp looks at the threshold only where a fraction is set; streams/garbage is torch's own."""
    total = 100 * MIB
    assert parse_settings("garbage_collection_threshold:0.5").garbage_above(total) is None
    both = parse_settings("garbage_collection_threshold:0.5,per_process_memory_fraction:0.5")
    assert both.garbage_above(total) == 25 * MIB


def test_two_variables_that_disagree_are_refused() -> None:
    one, other = "max_split_size_mb:64", "max_split_size_mb:128"
    stack = replace(assumed_stack(find_gpu("h200"), "2.13.0"), settings={"PYTORCH_CUDA_ALLOC_CONF": one})
    assert settings_of(stack).max_split == 64 * MIB
    both = replace(stack, settings=stack.settings | {"PYTORCH_ALLOC_CONF": other})
    with pytest.raises(UserError, match="disagree: set one of them"):
        settings_of(both)
    older = replace(stack, torch="2.7.1", settings={"PYTORCH_ALLOC_CONF": one})  # which reads the other name alone
    assert settings_of(older).max_split is None


@pytest.mark.parametrize(("size", "rounded"), [(4096, 4096), (4097, 5120), (1200, 1280), (1 << 20, 1 << 20)])
def test_rounds_to_divisions_of_a_power_of_two(size: int, rounded: int) -> None:
    assert round_to_division(size, 4) == rounded


def on(settings: str) -> profiler.data.records.Estimate:  # type: ignore[name-defined]
    stack = assumed_stack(find_gpu("h200"), "2.13.0")
    changed = Stack(**{**stack.__dict__, "settings": {"PYTORCH_ALLOC_CONF": settings}})
    return profiler.estimate("flux.1-dev", stack=changed)


def test_expandable_segments_hold_less_than_segments_do() -> None:
    """Flux VAE decode at 1024x1024: 4478 and 3152 MiB reserved when torch 2.11 was run on stub kernels."""
    plain, expandable = on(""), on("expandable_segments:True")
    assert plain.peak.reserved_bytes / MIB == pytest.approx(4478, abs=4)
    assert expandable.peak.reserved_bytes / MIB == pytest.approx(3152, abs=24)
