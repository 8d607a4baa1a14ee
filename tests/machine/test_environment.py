"""What the environment sets is part of every stack, said in the answer or refused: never ignored."""

from dataclasses import replace

import pytest

import profiler
from profiler.data.records import Estimate
from profiler.data.shown import first_notes
from profiler.errors import UserError
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.machine.environment import VARIABLES, check_settings, environment_with, say_settings
from profiler.machine.live import live_stack
from profiler.machine.probe import probe_stack
from profiler.machine.target import target_stack

TINY = "tests/models/tiny-image.yaml"
CONF = "PYTORCH_CUDA_ALLOC_CONF"
MODELLED = [name for name, (fate, _) in VARIABLES.items() if fate != "refused" and "ALLOC_CONF" not in name]
REFUSED = [name for name, (fate, _) in VARIABLES.items() if fate == "refused"]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTMETER_CACHE", "off")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def estimate(**stack: str) -> Estimate:
    return profiler.estimate(
        TINY, height=256, width=256, dtype="bf16", **{"gpu": "rtx-4090", "torch": "2.13.0"} | stack
    )


@pytest.mark.parametrize("name", VARIABLES)
def test_what_changes_memory_is_part_of_a_live_stack(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = live_stack("cpu")
    monkeypatch.setenv(name, "a value")
    after = live_stack("cpu")
    assert after.settings == before.settings | {name: "a value"}
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize("name", MODELLED)
def test_what_changes_memory_is_part_of_an_assumed_stack_and_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, _ = target_stack("rtx-4090", "2.13.0", None)
    monkeypatch.setenv(name, "1")
    after, _ = target_stack("rtx-4090", "2.13.0", None)
    assert (before.settings, after.settings) == ({}, {name: "1"})
    assert after.fingerprint != before.fingerprint
    assert say_settings(after).startswith(f"{name}=1 (")


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(UserError, match=f"{name}=1: .*unset it"):
        target_stack("h200", "2.13.0", None)


def test_a_switch_that_is_off_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_CUDNN_V8_API_DISABLED", "0")
    stack, _ = target_stack("h200", "2.13.0", None)
    assert "(off, as by default)" in say_settings(stack)


@pytest.mark.parametrize("name", [CONF, "PYTORCH_ALLOC_CONF"])
def test_the_allocators_settings_reach_an_estimate_for_a_named_card(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = estimate()
    monkeypatch.setenv(name, "large_segment_size_mb:64")
    found = estimate()
    assert found.peak.reserved_bytes != plain.peak.reserved_bytes
    assert first_notes(found.notes)["stack.settings"].startswith(f"{name}=large_segment_size_mb:64 (")


def test_what_is_asked_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = estimate(alloc_conf="large_segment_size_mb:64")
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "foo")
    assert estimate(alloc_conf="large_segment_size_mb:64").peak == asked.peak
    with pytest.raises(UserError, match="has no 'foo'"):
        estimate()
    assert asked.stack.settings == {CONF: "large_segment_size_mb:64"}


@pytest.mark.parametrize(
    "text", ["release_lock_on_cudamalloc:True", "garbage_collection_threshold:0.8", "pinned_num_register_threads:8"]
)
def test_a_setting_without_effect_on_sizes_does_not_void_an_estimate(text: str) -> None:
    assert estimate(alloc_conf=text).peak == estimate().peak


def test_a_threshold_without_a_fraction_is_said_to_do_nothing() -> None:
    said = estimate(alloc_conf="garbage_collection_threshold:0.8").notes["stack.settings"]
    assert "no effect without a memory fraction below 1" in said
    both = estimate(alloc_conf="garbage_collection_threshold:0.8,per_process_memory_fraction:0.9")
    assert "no effect" not in both.notes["stack.settings"]


def test_cublas_workspace_reaches_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = estimate()
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    found = estimate()
    assert plain.terms.workspace is not None and found.terms.workspace is not None
    assert plain.terms.workspace - found.terms.workspace == 8_519_680 - 131_072


def test_the_context_of_modules_loaded_at_once_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from profiler.machine import cards

    measured = replace(find_gpu("h200"), context_bytes=500 << 20)
    monkeypatch.setattr(cards, "find_gpu", lambda *_: measured)
    assert target_stack("h200", "2.13.0", None)[1] == 500 << 20
    monkeypatch.setenv("CUDA_MODULE_LOADING", "EAGER")
    assert target_stack("h200", "2.13.0", None)[1] is None


def test_a_process_that_measures_gets_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "max_split_size_mb:64")
    asked = environment_with("expandable_segments:True", "cuda")
    assert asked[CONF] == "expandable_segments:True" and "PYTORCH_ALLOC_CONF" not in asked
    assert environment_with(None, "cuda")["PYTORCH_ALLOC_CONF"] == "max_split_size_mb:64"
    with pytest.raises(UserError, match="has no 'foo'"):
        environment_with("foo", "cuda")


def test_an_allocator_setting_for_the_cpu_is_an_error() -> None:
    with pytest.raises(UserError, match="the CPU has no caching allocator"):
        profiler.measure(TINY, device="cpu", alloc_conf="expandable_segments:True")
    with pytest.raises(UserError, match="the CPU has no caching allocator"):
        probe_stack("auto", "expandable_segments:True")
    with pytest.raises(UserError, match="the CPU has no caching allocator"):
        profiler.estimate(TINY, stack=live_stack("cpu"), alloc_conf="expandable_segments:True")


def test_a_stack_of_ones_own_is_checked_too() -> None:
    stack = replace(assumed_stack(find_gpu("h200"), "2.13.0"), settings={CONF: "backend:cudaMallocAsync"})
    with pytest.raises(UserError, match="cudaMallocAsync is not modelled"):
        check_settings(stack)
    with pytest.raises(UserError, match="cudaMallocAsync is not modelled"):
        profiler.estimate(TINY, stack=stack)
