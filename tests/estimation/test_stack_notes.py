"""What a stack means for the answer stands before the figures: versions nobody looked at, other plans, slow convolutions."""

from collections.abc import Iterator

import pytest

import profiler
from profiler.data.shown import first_notes
from profiler.kernels import cudnn_plans


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LATENTMETER_CACHE", "off")
    monkeypatch.setattr(cudnn_plans, "front_end_version", lambda: None)
    yield


def notes(model: str = "tiny-video", **stack: object) -> dict[str, str]:
    asked = {"height": 64, "width": 64, "dtype": "bf16", "gpu": "rtx-4090"} | stack
    return profiler.estimate(f"tests/models/{model}.yaml", **asked).notes  # type: ignore[arg-type]


def test_a_stack_that_was_looked_at_needs_no_word() -> None:
    assert first_notes(notes(torch="2.13.0")) == {}


def test_a_release_that_nobody_looked_at() -> None:
    said = notes(torch="2.14.0")["stack.torch"]
    assert said.startswith("torch 2.14.0 is unverified: kernels and allocator were looked at from 2.6 to 2.13")
    assert (
        "no such release was there" not in said and "no such release was there" in notes(torch="2.16.0")["stack.torch"]
    )


def test_plans_of_another_cudnn() -> None:
    found = notes(torch="2.7.1")
    assert "by plans of cuDNN 9.20.0: those of 9.5.1 are not known" in found["stack.cudnn"]
    assert "by plans of" not in found.get("terms.workspace", "")  # said once, above the figures
    assert "refuses an older one" in notes(torch="2.13.0", cudnn=90501)["stack.cudnn"]
    assert "stack.cudnn" not in notes(torch="2.12.0", cudnn=92001)  # a patch plans as its release


def test_a_torch_that_keeps_16_bit_conv3d_from_cudnn() -> None:
    said = notes(torch="2.9.1")["stack.convolutions"]
    assert said.startswith("convolutions: ")
    assert "by vol2col, not by cuDNN: torch 2.9.1 with cuDNN 9.10.2 keeps 16-bit 3D convolutions from cuDNN" in said
    assert said.endswith("several times the memory")
    for other in ({"torch": "2.11.0"}, {"torch": "2.9.1", "cudnn": 91500}, {"torch": "2.9.1", "dtype": "fp32"}):
        assert "stack.convolutions" not in notes(**other), other


def test_a_card_before_ampere_convolves_bf16_without_cudnn() -> None:
    said = notes("tiny-image", gpu="t4", torch="2.13.0")["stack.convolutions"]
    assert "by im2col, not by cuDNN: cuDNN takes bf16 from Ampere on" in said
    assert "stack.convolutions" not in notes("tiny-image", gpu="t4", torch="2.13.0", dtype="fp16")
