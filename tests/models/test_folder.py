"""Folders on disk: a pipeline's, a component's, and files in them that are wrong, each named with what is wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import profiler
from profiler.errors import LatentmeterError, UserError
from profiler.models.build import component_class
from profiler.models.catalog import read_spec
from profiler.models.find import find_model
from profiler.models.weights import weights_format, weights_note
from profiler.stages.stage import Stage

TINY = Path(__file__).parent / "tiny-image.yaml"
VAE, UNET = ["diffusers", "AutoencoderKL"], ["diffusers", "UNet2DConditionModel"]


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def config(part: str, **change: Any) -> dict[str, Any]:
    component = getattr(read_spec(TINY), part)
    return {"_class_name": component.class_name, **component.config, **change}


@pytest.mark.parametrize(
    ("vae", "unet", "side"),
    [
        ({"sample_size": 64}, {"sample_size": 24}, 24 * 2),  # the denoiser's, in positions, as pipelines take it
        ({"sample_size": 64}, {"sample_size": None}, 64),
    ],
)
def test_a_pipelines_default_size_is_its_own_configs(tmp_path: Path, vae: Any, unet: Any, side: int) -> None:
    write(tmp_path / "model_index.json", {"vae": VAE, "unet": UNET})
    write(tmp_path / "vae/config.json", config("vae", **vae))
    write(tmp_path / "unet/config.json", config("denoiser", **unet))
    spec = find_model(str(tmp_path))
    for stage in ("decode", "denoise"):
        workload = spec.workload(stage)  # type: ignore[arg-type]
        assert (workload.frames, workload.height, workload.width) == (1, side, side)


def test_a_components_folder_is_a_model(tmp_path: Path) -> None:
    write(tmp_path / "vae/config.json", config("vae", sample_size=64))
    found = profiler.estimate(str(tmp_path / "vae"), gpu="h200")
    assert found.output_shapes == ((1, 3, 64, 64),)


def test_a_clips_denoiser_over_a_picture_vae_takes_any_number_of_frames(tmp_path: Path) -> None:
    """AnimateDiff's kind: the VAE codes the frames as rows. Alone, the same VAE is of one picture."""
    write(tmp_path / "model_index.json", {"vae": VAE, "unet": ["diffusers", "UNet3DConditionModel"]})
    write(tmp_path / "vae/config.json", config("vae"))
    small = {"block_out_channels": [32, 32], "layers_per_block": 1, "norm_num_groups": 8, "cross_attention_dim": 32,
             "attention_head_dim": 8, "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
             "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"], "sample_size": 32}  # fmt: skip
    write(tmp_path / "unet/config.json", {"_class_name": "UNet3DConditionModel", **small})
    spec = find_model(str(tmp_path))
    assert spec.workload("denoise", frames=6, height=64, width=64).frames == 6
    with pytest.raises(UserError, match="give --frames, --height, --width"):
        spec.workload("decode")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"_class_name": "\xff"}', "config.json: not JSON"),
        (b"[" * 100_000, "config.json: not JSON: a value that its tag or its depth forbids"),
        ([1], "config.json: expected a mapping"),
        ({"_class_name": 5}, "config.json: `_class_name` must be the name of a diffusers class, not 5"),
        ({"_class_name": "__doc__"}, "no model class '__doc__'"),
        ({"act_fn": "silu"}, "config.json: no `_class_name`"),
        (
            {"_class_name": "AutoencoderKL", "block_out_channels": [10**30]},
            "config.json: not JSON: a number of more than 64 bits",
        ),
        ({"_class_name": "AutoencoderKL", "sample_size": -5}, "height: Input should be greater than 0"),
    ],
)
def test_a_config_that_is_none(tmp_path: Path, content: Any, message: str) -> None:
    write(tmp_path / "config.json", content)
    for name in (tmp_path, tmp_path / "config.json"):
        with pytest.raises(LatentmeterError, match=message):
            find_model(str(name))


@pytest.mark.parametrize("entry", [[], "x", ["a"], 5, {"a": 1}, ["a", "b", "c"], [1, 2]], ids=str)
def test_an_index_that_names_no_class(tmp_path: Path, entry: Any) -> None:
    write(tmp_path / "model_index.json", {"vae": entry})
    with pytest.raises(UserError, match=r"model_index.json: 'vae' must be \[\"library\", \"class\"\]"):
        find_model(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../x", "no such folder"),
        ("", "no model ''"),
        ("./nofolder", "no such folder"),
        ("a" * 5000, r"no model 'a{80}\.\.\.'"),
        ("a/" + "a" * 5000, "no such folder"),
        (str(Path(__file__)), "it is a file, but no .yaml and no .json"),
        (str(Path(__file__).parent), "no model_index.json"),
    ],
    ids=["outside", "unnamed", "nowhere", "long", "long-hub", "file", "folder"],
)
def test_what_is_no_model_says_what_it_is(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_model(name)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    module = component_class("AutoencoderKL").from_config(config("vae"))
    module.save_pretrained(tmp_path / "safe")
    module.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    return tmp_path


def test_weights_are_safetensors_and_a_pickle_only_where_it_is_allowed(saved: Path) -> None:
    spec, size = find_model(str(saved / "pickled")), {"height": 32, "width": 32}
    with pytest.raises(UserError, match=r"pickle.*--allow-pickle \(allow_pickle=True\)"):
        profiler.measure(str(saved / "pickled"), device="cpu", **size)  # type: ignore[arg-type]
    allowed = replace(spec, allow_pickle=True)
    read, other = (Stage(one.workload("decode", **size), one, weights=True) for one in (allowed, spec))
    assert next(read.module.parameters()).device.type == "cpu"
    with pytest.raises(UserError, match="--allow-pickle"):
        assert other.module
    assert weights_note(allowed, "decode") == {"weights": f"read from {saved / 'pickled'}, pickle"}
    assert allowed.digest == spec.digest  # the same model, however its weights are read


def test_an_allowed_pickle_is_not_read_where_there_are_safetensors(saved: Path) -> None:
    spec = replace(find_model(str(saved / "safe")), allow_pickle=True)
    assert weights_format(spec, "decode") == "safetensors"
    for file in (saved / "safe").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(UserError, match="no weights"):
        weights_format(spec, "decode")


def test_a_model_file_does_not_allow_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(TINY.read_text() + "allow_pickle: true\n")
    with pytest.raises(UserError, match="allow_pickle: not for a file to say"):
        find_model(str(path))
