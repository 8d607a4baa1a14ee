"""The length of a prompt: part of the sequence, a mask's content where a pipeline pads, and of every key that names it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import profiler
from profiler.data.stack import Stack
from profiler.data.workload import Workload
from profiler.errors import UserError
from profiler.estimation.cache import EstimateCache
from profiler.files.load import from_dict
from profiler.models.catalog import catalog_model
from profiler.models.find import find_model
from profiler.stages.stage import Stage
from profiler.stages.template import fill_template, symbols
from profiler.sweeps.plan import Sweep, plan_sweep

TINY = Path(__file__).parents[1] / "models"
MASKED, VIDEO = str(TINY / "tiny-masked.yaml"), str(TINY / "tiny-video.yaml")
CPU, CARD = Stack(device="cpu", torch="2.13.0"), {"gpu": "h200", "cache": False}


def inputs(model: str, **given: Any) -> Any:
    spec = catalog_model(model)
    assert spec.denoiser is not None
    found = symbols(spec, spec.workload("denoise", **given))
    return fill_template(spec.denoiser.inputs, found, torch.bfloat16, torch.device("meta" if not given else "cpu"))


@pytest.mark.parametrize(
    ("model", "given", "length", "valid"),
    [
        ("framepack-i2v", None, 256, 256),
        ("framepack-i2v", 20, 256, 20),  # padded to 256, as its pipeline pads, with a mask
        ("framepack-i2v", 300, 300, 300),
        ("wan2.1-t2v-1.3b", None, 512, 512),
        ("wan2.1-t2v-1.3b", 20, 20, 20),  # no mask: the sequence is as long as the text
        ("qwen-image", 20, 20, 20),  # its pipeline pads to the longest prompt only
    ],
)
def test_a_padded_text_keeps_its_length_and_another_has_its_own(
    model: str, given: int | None, length: int, valid: int
) -> None:
    spec = catalog_model(model)
    found = symbols(spec, spec.workload("denoise", text_length=given))
    assert (found["L"], found["V"]) == (length, valid)


def test_a_masks_entries_are_the_tokens_of_the_text() -> None:
    small = {"frames": 1, "height": 16, "width": 16, "text_length": 3}
    assert inputs("framepack-i2v", **small)["encoder_attention_mask"].sum() == 3
    chroma = inputs("chroma1-hd", **small)["attention_mask"]
    assert chroma.shape == (1, 512 + 1)  # the text's, then one token of the image
    assert chroma.sum() == 3 + 1


@pytest.mark.parametrize("model", [MASKED, VIDEO])
def test_the_prompt_is_of_the_answer_and_of_its_key(model: str) -> None:
    published = profiler.estimate(model, "denoise", **CARD)  # type: ignore[arg-type]
    longer = profiler.estimate(model, "denoise", text_length=40, **CARD)  # type: ignore[arg-type]
    assert longer.peak.allocated_bytes > published.peak.allocated_bytes
    assert longer.workload.key == f"{published.workload.key}/text40"
    assert "text" not in published.workload.key.removeprefix(model)


@pytest.mark.parametrize("text_length", [1, 5])
def test_a_mask_that_a_model_reads_gives_with_data_what_the_trace_says(text_length: int) -> None:
    spec = find_model(MASKED)
    stage = Stage(spec.workload("denoise", text_length=text_length), spec)
    stage.load(torch.device("cpu"))
    stage.make_inputs(torch.device("cpu"))
    found = profiler.estimate(MASKED, "denoise", stack=CPU, cache=False, text_length=text_length)
    assert found.output_shapes == (tuple(stage().shape),)
    assert "masks" not in found.notes  # nothing was guessed


@pytest.mark.parametrize(
    ("model", "stage"), [("sd1.5", "decode"), ("dit-xl-2-256", "denoise"), ("sd1.5", "patch-embed")]
)
def test_where_no_text_goes_in_a_length_is_an_error(model: str, stage: Any) -> None:
    with pytest.raises(UserError, match=r"text-length: .* takes no text sequence"):
        catalog_model(model).workload(stage, text_length=20)


def test_no_answer_and_no_recording_of_another_length() -> None:
    spec = find_model(VIDEO)
    works = [spec.workload("denoise", text_length=length) for length in (None, 20, 21)]
    assert len({EstimateCache(work, spec, Stack(device="cuda", torch="2.13.0")).key for work in works}) == 3


def test_a_sweep_has_it_as_an_axis_and_skips_a_stage_without_text() -> None:
    entry = {"model": VIDEO, "stages": ["denoise", "decode"], "text_length": [20, 40]}
    cases = plan_sweep(from_dict(Sweep, {"name": "s", "title": "t", "cases": [entry]})).cases
    assert [(case.workload.stage, case.workload.text_length, case.problem is None) for case in cases] == [
        ("denoise", 20, True), ("denoise", 40, True), ("decode", 20, False), ("decode", 40, False),
    ]  # fmt: skip


def test_a_record_without_it_still_opens() -> None:
    work = catalog_model("sd1.5").workload("denoise")
    old = json.loads(json.dumps({"model": work.model, "stage": work.stage, "frames": 1, "height": 512, "width": 512}))
    assert from_dict(Workload, old) == replace(work, dtype="bf16")
    with pytest.raises(UserError, match="text_length: expected a positive integer"):
        replace(work, text_length=0)
