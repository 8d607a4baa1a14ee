"""diffusers' attention backends: our names are its names, its own code runs, and the environment's default is an option."""

from typing import Any

import pytest
import torch

import profiler
from profiler.data.records import Estimate
from profiler.data.workload import BACKENDS, OTHER_BACKENDS, MemoryOptions
from profiler.errors import UserError
from profiler.files.load import from_dict
from profiler.models.attention import VARIABLE
from profiler.sweeps.plan import Sweep, plan_sweep

VIDEO, IMAGE = "tests/models/tiny-video.yaml", "tests/models/tiny-image.yaml"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def denoise(backend: Any = None, model: str = VIDEO, gpu: str = "rtx-4090", **rest: Any) -> Estimate:
    options = MemoryOptions(attention_backend=backend, **rest)
    return profiler.estimate(model, "denoise", gpu=gpu, cache=False, dtype="bf16", options=options)


def test_our_names_are_all_names_of_diffusers() -> None:
    from diffusers.models.attention_dispatch import AttentionBackendName

    assert {name.value for name in AttentionBackendName} == {*BACKENDS, *OTHER_BACKENDS}


@pytest.mark.parametrize(
    ("backend", "route"),
    [
        ("native", "flash"),
        ("_native_cudnn", "cudnn"),
        ("_native_efficient", "efficient"),
        ("_native_flash", "flash"),
        ("_native_math", "math"),
        ("flash", "flash-attn"),
        ("sage", "sage"),
        ("xformers", "xformers"),
    ],
)
def test_every_backend_runs_as_what_it_is(backend: str, route: str) -> None:
    found = denoise(backend)
    assert found.routes.keys() - {"convolution cudnn, closed form", "convolution cudnn, planned"} == {
        f"attention {route}"
    }
    assert found.workload.key.endswith(f"/backend-{backend}")
    assert found.options["attention_backend"].applied
    assert ("peak.allocated_bytes" in found.notes) == (backend in ("sage", "xformers"))


def test_native_cudnn_copies_and_the_cudnn_kernel_does_not() -> None:
    """Copies of q, k and v, and of the output, whose order is that of the copied queries, around each attention."""
    pinned, copying = denoise(attention="cudnn"), denoise("_native_cudnn")
    assert pinned.routes["attention cudnn"] == copying.routes["attention cudnn"]
    assert copying.events - pinned.events == 2 * 4 * copying.routes["attention cudnn"]


@pytest.mark.parametrize(
    ("backend", "gpu", "reason"),
    [
        ("_native_flash", "t4", "flash needs architecture 8.0"),
        ("flash", "t4", "flash-attn needs architecture 8.0"),
        ("sage", "b200", "sage has no kernel for architecture 10.0"),
    ],
)
def test_a_backend_that_a_card_cannot_run_is_an_error(backend: str, gpu: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        denoise(backend, gpu=gpu)


def test_a_backend_that_refuses_the_models_mask_is_an_error() -> None:
    with pytest.raises(UserError, match="attention_backend: flash refuses a call of this model: `attn_mask` is not"):
        denoise("flash", model="tests/models/tiny-masked.yaml")


def test_a_class_without_the_dispatcher_takes_no_backend() -> None:
    with pytest.raises(UserError, match="attention_backend: cannot be applied: UNet2DConditionModel calls torch's"):
        denoise("native", model=IMAGE)


def test_backends_that_are_not_modelled_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"'flex' is not modelled; one of native, _native_cudnn, .*xformers$"):
        MemoryOptions(attention_backend="flex")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no backend 'quick'; one of native"):
        MemoryOptions(attention_backend="quick")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="packages besides torch are asked for by attention_backend"):
        MemoryOptions(attention="flash-attn")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="_native_math decides the kernel itself"):
        MemoryOptions(attention="flash", attention_backend="_native_math")


def test_the_environment_is_as_good_as_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, asked = denoise(), denoise("_native_cudnn")
    monkeypatch.setenv(VARIABLE, "_native_cudnn")
    found = denoise()
    assert (found.workload, found.peak, found.routes) == (asked.workload, asked.peak, asked.routes)
    assert found.notes["stack.attention_backend"] == "DIFFUSERS_ATTN_BACKEND makes _native_cudnn the default"
    assert denoise("native").routes == plain.routes  # the option overrides it
    entry = {"model": VIDEO, "stages": ["denoise", "decode"]}
    sweep = from_dict(Sweep, {"name": "s", "title": "t", "cases": [entry]})
    assert [case.workload.options.attention_backend for case in plan_sweep(sweep).cases] == ["_native_cudnn", None]
    there = plan_sweep(sweep).identity
    monkeypatch.delenv(VARIABLE)
    assert there != plan_sweep(sweep).identity


def test_a_class_without_the_dispatcher_ignores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "flex")
    assert "backend" not in denoise(model=IMAGE).workload.key
    assert "backend" not in profiler.estimate(VIDEO, "patch-embed", gpu="h200", cache=False).workload.key
    with pytest.raises(UserError, match=r"DIFFUSERS_ATTN_BACKEND=flex: .*'flex' is not modelled; one of native"):
        denoise()


@pytest.mark.parametrize("value", ["quick", "", "FLASH"])
def test_an_unknown_backend_of_the_environment_is_an_error(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    for model in (VIDEO, IMAGE, "AutoencoderKL"):
        with pytest.raises(
            UserError, match=rf"DIFFUSERS_ATTN_BACKEND: diffusers has no backend '{value}'; one of native"
        ):
            profiler.estimate(model, gpu="h200")


def test_the_dispatcher_is_left_as_it_was() -> None:
    from diffusers.models import attention_dispatch as dispatch

    before = dispatch._AttentionBackendRegistry._active_backend, dispatch.flash_attn_func
    denoise("flash")
    assert (dispatch._AttentionBackendRegistry._active_backend, dispatch.flash_attn_func) == before
    assert torch.backends.cuda.math_sdp_enabled()
