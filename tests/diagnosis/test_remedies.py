"""Remedies are estimates with the option on; what does not lower the peak is none."""

from dataclasses import replace

from profiler.api import estimate
from profiler.data.workload import MemoryOptions
from profiler.diagnosis.remedies import estimate_remedies
from profiler.machine.target import target_stack
from profiler.models.find import find_model
from profiler.stages.stage import Stage

STACK, _ = target_stack("h200", None, None)
EVERY = ("tiling", "tile", "framewise", "slicing", "channels_last", "bf16", "attention", "expandable_segments")


def test_savings_are_the_estimators_own() -> None:
    name, size = "tests/models/tiny-video.yaml", {"height": 64, "width": 64}
    spec = find_model(name)
    workload = spec.workload("decode", **size)
    found, left_out = estimate_remedies(EVERY, workload, spec, STACK, Stage(workload, spec).module)
    plain = estimate(name, gpu="h200", **size).peak.allocated_bytes
    by_name = {remedy.name: remedy for remedy in found}
    channels_last = estimate(name, gpu="h200", options=MemoryOptions(channels_last=True), **size).peak.allocated_bytes
    assert by_name["channels_last"].saving == plain - channels_last > 0
    assert by_name["bf16"].saving == plain - estimate(name, gpu="h200", dtype="bf16", **size).peak.allocated_bytes
    assert [remedy.saving for remedy in found] == sorted((remedy.saving for remedy in found), reverse=True)
    assert "does not help" in left_out["--tiling"]  # one tile covers the frame
    assert "cannot be applied: AutoencoderKLWan has no framewise switch" in left_out["--framewise"]
    assert "flash takes float16 and bfloat16, not float32" in left_out["--attention flash"]
    assert {remedy.how for remedy in found}.isdisjoint(left_out)


def test_an_option_that_breaks_the_model_is_left_out() -> None:
    spec = find_model("tests/models/tiny-causal.yaml")
    workload = spec.workload("decode")
    found, left_out = estimate_remedies(("tiling",), workload, spec, STACK, Stage(workload, spec).module)
    assert not found and "the contract says" in left_out["--tiling"]


def test_what_is_on_already_is_not_proposed() -> None:
    spec = find_model("tests/models/tiny-image.yaml")
    workload = replace(spec.workload("decode"), options=MemoryOptions(tiling=True, channels_last=True))
    expandable = replace(STACK, settings={"PYTORCH_ALLOC_CONF": "expandable_segments:True"})
    module = Stage(workload, spec).module
    asked = ("tiling", "channels_last", "slicing", "expandable_segments")
    assert estimate_remedies(asked, workload, spec, expandable, module) == ([], {})
