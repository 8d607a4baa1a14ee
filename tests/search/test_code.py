"""The code that is printed runs: its lines do to a pipeline of real classes what the estimator did, and call it so."""

import functools
import inspect
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import diffusers
import torch

from profiler.data.workload import MemoryOptions, Placement
from profiler.machine.target import target_stack
from profiler.models.build import TORCH_DTYPES
from profiler.models.find import find_model
from profiler.models.pipeline import build_pipeline, call_arguments
from profiler.models.pipeline_spec import catalog_pipeline
from profiler.models.spec import Size
from profiler.search.code import code_of
from profiler.search.question import GenerationQuestion, StageQuestion
from profiler.search.result import _command
from profiler.search.setting import Setting
from profiler.search.vae_switches import switches
from profiler.stages.generation_options import apply_to_pipeline

LEAF, MODEL = Placement(offload="group-leaf", stream=True), Placement(offload="model")
TILES = MemoryOptions(tiling=True, tile=(512, 512))
PIPELINES: dict[str, Setting] = {
    "flux.1-dev": Setting(placement=LEAF, options=TILES, expandable=True),
    "sdxl": Setting(placement=MODEL, options=TILES),
    "sd1.5": Setting(options=MemoryOptions(slicing=True, channels_last=True)),
    "wan2.1-t2v-14b": Setting(placement=LEAF, options=TILES, expandable=True),
    "wan2.2-i2v-a14b": Setting(placement=Placement(offload="sequential")),
    "hunyuan-video": Setting(placement=LEAF, options=TILES),
    "cogvideox-5b": Setting(placement=MODEL, options=MemoryOptions(tiling=True)),
    "ltx-video-2b": Setting(placement=MODEL, options=MemoryOptions(tiling=True, framewise=True)),
    "mochi-1": Setting(placement=MODEL, options=MemoryOptions(tiling=True)),
    "qwen-image": Setting(placement=LEAF, options=TILES),
    "svd-xt": Setting(placement=MODEL, decode_chunk=2),
    "sdxl-controlnet": Setting(placement=MODEL),
    "flux.1-dev-inpaint": Setting(options=MemoryOptions(attention="efficient")),
}


def asked(name: str, **more: Any) -> GenerationQuestion:
    stack, context = target_stack("rtx-4090", "2.13.0", None)
    return GenerationQuestion(spec=catalog_pipeline(name), stack=stack, context_bytes=context, **more)


@pytest.mark.parametrize("name", PIPELINES)
def test_the_code_does_what_was_estimated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs as it stands, but for the hub: weights without data; the placing and the call are heard, and not run."""
    question, setting = asked(name), PIPELINES[name]
    spec, cls = question.spec, getattr(diffusers, question.spec.class_name)
    made, estimated = build_pipeline(spec), build_pipeline(spec)
    heard: dict[str, dict[str, Any]] = {}

    def loaded(hub: str, **how: Any) -> Any:
        assert hub.count("/") == 1 or hub == "HUB_ID_OR_FOLDER"
        heard["load"] = how
        return made

    def hear(method: str) -> Any:
        signature = inspect.signature(getattr(cls, method))

        @functools.wraps(getattr(cls, method))
        def called(self: Any, *args: Any, **kwargs: Any) -> None:
            heard[method] = dict(list(signature.bind(self, *args, **kwargs).arguments.items())[1:])

        return called

    placing = ("to", "enable_model_cpu_offload", "enable_sequential_cpu_offload", "enable_group_offload", "__call__")
    monkeypatch.setattr(cls, "from_pretrained", loaded)
    for method in placing:
        monkeypatch.setattr(cls, method, hear(method))
    for apart in ("ControlNetModel", "MotionAdapter"):
        monkeypatch.setattr(getattr(diffusers, apart), "from_pretrained", lambda *_, **__: made.controlnet)
    monkeypatch.setattr("diffusers.utils.load_image", picture)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    code = code_of(question, setting)
    exec(code, {})  # what a user does with it

    size = Size(**question.size)
    given = call_arguments(spec, size=size, decode_chunk=setting.decode_chunk)
    assert heard["__call__"].keys() == given.keys()
    for key, value in heard["__call__"].items():
        if key in (*spec.pictures, *spec.masks):
            assert value.size == given[key].size
        elif "prompt" not in key:
            assert value == given[key]
    dtypes = heard["load"]["torch_dtype"]
    for component in spec.components:
        told = dtypes.get(component, dtypes["default"]) if isinstance(dtypes, dict) else dtypes
        if isinstance(getattr(made, component, None), torch.nn.Module):
            assert told == TORCH_DTYPES[spec.dtype_of(component)]
    apply_to_pipeline(estimated, spec, size, 1, setting.options)
    assert plain(made.vae) == plain(estimated.vae)
    placed = {"model": "enable_model_cpu_offload", "sequential": "enable_sequential_cpu_offload", "none": "to"}
    assert placed.get(setting.placement.offload, "enable_group_offload") in heard
    assert (os.environ.get("PYTORCH_ALLOC_CONF") == "expandable_segments:True") == setting.expandable


def test_a_lora_is_loaded_before_its_pipeline_is_placed(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    file.touch()
    for lora, told in ((16, "LORA_FILE"), (file, file)):
        question = asked("sd1.5", call={"lora": lora, "steps": 20})
        lines = code_of(question, Setting()).splitlines()
        assert lines.index(f'pipe.load_lora_weights("{told}")  # needs peft') < lines.index('pipe.to("cuda")')
        assert "lora" not in lines[-1]
        assert _command(question, Setting()).endswith(f"sd1.5 --stage generate --lora {lora} --steps 20")


def test_several_loras_are_loaded_by_names_and_active_at_once() -> None:
    lines = code_of(asked("sd1.5", call={"lora": (16, "8")}), Setting()).splitlines()
    first = lines.index('pipe.load_lora_weights("LORA_FILE", adapter_name="lora_0")  # needs peft')
    assert lines[first + 1 : first + 3] == [
        'pipe.load_lora_weights("LORA_FILE", adapter_name="lora_1")  # needs peft',
        'pipe.set_adapters(["lora_0", "lora_1"])',
    ]
    assert _command(asked("sd1.5", call={"lora": (16, "8")}), Setting()).endswith(" --lora 16 --lora 8")


def picture(_: str) -> Any:
    import PIL.Image

    return PIL.Image.new("RGB", (8, 8))


def plain(module: Any) -> dict[str, Any]:
    strides = {name: parameter.stride() for name, parameter in module.named_parameters()}
    return {name: value for name, value in vars(module).items() if isinstance(value, int | float | bool)} | strides


def test_the_code_of_a_stage_runs_on_weights(tmp_path: Path) -> None:
    """A VAE saved by diffusers, loaded and run by the code as it stands, but for the device."""
    spec = find_model("tests/models/tiny-video.yaml")
    assert spec.vae is not None
    diffusers.AutoencoderKLWan.from_config(spec.vae.config).save_pretrained(tmp_path / "vae")
    stack, context = target_stack("rtx-4090", "2.13.0", None)
    question = StageQuestion(spec=replace(spec, hub=str(tmp_path)), stack=stack, context_bytes=context)
    setting = Setting(options=MemoryOptions(tiling=True, tile=(32, 32), channels_last=True), dtype="fp32")
    here: dict[str, Any] = {"latents": torch.zeros(1, 4, 2, 8, 8)}
    code = code_of(question, setting).replace("cuda", "cpu")
    exec(code, here)
    assert here["pixels"].shape == (1, 3, 5, 64, 64)
    assert (here["vae"].use_tiling, here["vae"].tile_sample_min_height) == (True, 32)


@pytest.mark.parametrize(("name", "variable"), [("2.8.0", "PYTORCH_CUDA_ALLOC_CONF"), ("2.9.1", "PYTORCH_ALLOC_CONF")])
def test_the_allocators_variable_is_that_of_the_release(name: str, variable: str) -> None:
    stack, _ = target_stack("rtx-4090", name, None, None, "max_split_size_mb:64")
    question = StageQuestion(spec=find_model("tests/models/tiny-image.yaml"), stack=stack)
    line = f'os.environ["{variable}"] = "max_split_size_mb:64,expandable_segments:True"'
    assert line in code_of(question, Setting(expandable=True))


def test_tiles_compute_their_overlaps_again() -> None:
    question = asked("sdxl", sizes={"height": 1024, "width": 1024})
    found = switches(question, Setting(options=TILES))
    # Strides of 384 pixels: tiles of 512, 512 and 256 a side are 1280 of 1024 pixels.
    assert found.recomputed == pytest.approx(1.25**2 - 1)
    assert switches(question, Setting()).recomputed is None


def test_a_picture_that_one_tile_holds_is_not_cut_so_nothing_is_computed_again() -> None:
    options = MemoryOptions(tiling=True, tile_stride=(128, 128))
    assert switches(asked("sd1.5"), Setting(options=options)).recomputed is None
    wide = asked("sd1.5", sizes={"height": 512, "width": 768})  # both sides are cut then, the short one too
    assert switches(wide, Setting(options=options)).recomputed == pytest.approx(2.5 * 3 - 1)
