"""Remedies are estimates with the option on; what does not lower the peak is none."""

import re
from dataclasses import replace

from profiler.api import estimate
from profiler.data.workload import MemoryOptions
from profiler.diagnosis.collect import estimated
from profiler.diagnosis.findings import find_all
from profiler.diagnosis.remedies import _candidates, estimate_remedies
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
    assert re.match(
        r"does not help: [\d.]+ MiB allocated instead of [\d.]+ MiB$", left_out["--tiling"]
    )  # one tile covers the frame
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


def test_a_newer_torch_or_cudnn_takes_vol2col_away() -> None:
    """torch 2.9.1 with its own cuDNN 9.10.2 runs 16-bit 3D convolutions without cuDNN."""
    name, size = "tests/models/tiny-video.yaml", {"height": 64, "width": 64, "dtype": "bf16"}
    spec = find_model(name)
    workload, (stack, _) = spec.workload("decode", **size), target_stack("rtx-4090", "2.9.1", None)
    profile, stage = estimated(workload, spec, stack)
    finding = next(finding for finding in find_all(profile) if finding.rule == "convolution-workspace")
    assert "runs without cuDNN: it writes out every output position with all its taps" in finding.title
    assert "copies" not in finding.title and finding.evidence[-1].startswith("torch 2.9.1 with cuDNN 9.10.2 keeps")
    assert {"newer_torch", "newer_cudnn"} <= set(finding.options)
    found, _ = estimate_remedies(("newer_torch", "newer_cudnn"), workload, spec, stack, stage.module)
    after = {remedy.how: remedy.allocated for remedy in found}
    assert after["--torch 2.13.0"] == estimate(name, gpu="rtx-4090", torch="2.13.0", **size).peak.allocated_bytes
    newer = estimate(name, gpu="rtx-4090", torch="2.9.1", cudnn=91500, **size).peak.allocated_bytes
    assert after["--cudnn 91500"] == newer < profile.peak


def test_fp16_is_a_remedy_where_cudnn_does_not_take_bf16() -> None:
    name, size = "tests/models/tiny-image.yaml", {"height": 64, "width": 64, "dtype": "bf16"}
    spec, (stack, _) = find_model(name), target_stack("t4", "2.13.0", None)
    workload = spec.workload("decode", **size)
    found, _ = estimate_remedies(("fp16",), workload, spec, stack, Stage(workload, spec).module)
    plain = estimate(name, gpu="t4", torch="2.13.0", **size).peak.allocated_bytes
    fp16 = estimate(name, gpu="t4", torch="2.13.0", **size | {"dtype": "fp16"}).peak.allocated_bytes
    assert plain is not None and fp16 is not None
    assert [(remedy.how, remedy.saving) for remedy in found] == [("--dtype fp16", plain - fp16)]


def test_expandable_segments_join_what_is_set_already() -> None:
    spec = find_model("tests/models/tiny-image.yaml")
    workload = spec.workload("decode")
    stack = replace(STACK, settings={"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"})
    *_, (name, _, _, on) = _candidates(workload, spec, stack, Stage(workload, spec).module)
    assert name == "expandable_segments"
    assert on.settings == {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64,expandable_segments:True"}
