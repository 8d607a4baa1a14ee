"""Coverage: every class is tried or set aside by a rule, and a failure is a reason in words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from profiler.evidence.coverage import Trial, class_names, out_of_scope, summary, try_class
from profiler.report.markdown import render_coverage

RESULTS = Path(__file__).parents[2] / "results" / "coverage.md"


@pytest.mark.parametrize(
    ("name", "stages"),
    [("AutoencoderTiny", ["encode", "decode"]), ("Transformer2DModel", ["denoise"]), ("VQModel", ["encode", "decode"])],
)
def test_a_class_that_estimates(name: str, stages: list[str]) -> None:
    trials = try_class(name, class_names()[name], "h200")
    assert [trial.stage for trial in trials] == stages
    assert all(trial.status == "ok" and trial.peak_bytes and trial.key for trial in trials)


def test_a_class_that_does_not_says_why() -> None:
    (trial,) = try_class("WanAnimate2Transformer3DModel", "denoiser", "h200")
    assert trial.status == "failed"
    assert "kv_cache" in (trial.reason or "")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("AutoencoderOobleck", "sound"),
        ("AceStepTransformer1DModel", "sound"),
        ("UNet1DModel", "one axis"),
        ("RFD4ProteinaTransformer", "molecules"),
        ("MotionAdapter", "no timestep"),
        ("Kandinsky6Transformer3DModel", None),
        ("AutoencoderKLWan", None),
        ("ZImageTransformer2DModel", None),
    ],
)
def test_what_is_out_of_scope(name: str, reason: str | None) -> None:
    found = out_of_scope(name, class_names()[name])
    assert reason in (found or "") if reason else found is None


def test_the_summary_counts_classes_of_which_every_stage_estimates() -> None:
    trials = [
        Trial("A", "autoencoder", "encode", "ok"),
        Trial("A", "autoencoder", "decode", "failed", reason="why | not"),
        Trial("B", "denoiser", "denoise", "ok", peak_bytes=1024),
        Trial("C", "denoiser", None, "out of scope", reason="sound"),
    ]
    assert summary(trials) == "autoencoders 0 of 1, denoisers 1 of 1, out of scope 1"
    assert "| A | decode | failed | - | - | why \\| not |" in render_coverage(trials, summary(trials), "h200")


def test_the_command_reports_and_fails_with_a_class(latentmeter: Callable[..., Any], tmp_path: Path) -> None:
    table = tmp_path / "coverage.md"
    names = ("--class", "AutoencoderTiny", "--class", "WanAnimate2Transformer3DModel")
    answer = latentmeter("coverage", *names, "--json", "--out", table)
    assert answer.code == 1
    found = json.loads(answer.out)
    assert found["summary"] == "autoencoders 1 of 1, denoisers 0 of 1, out of scope 0"
    assert "AutoencoderTiny" in table.read_text()
    assert "[2/2]" in answer.err
    assert latentmeter("coverage", "--class", "Nothing").code == 2


def test_the_committed_table_has_every_class_of_this_diffusers() -> None:
    import diffusers

    text = RESULTS.read_text()
    if f"diffusers {diffusers.__version__}," not in text:
        pytest.skip("the table is of another diffusers")
    assert [name for name in class_names() if f"| {name} |" not in text] == []
