"""The catalog's files are valid, sourced and true to the classes that they name."""

from pathlib import Path
from typing import Any

import pytest
import torch

from profiler.errors import UserError
from profiler.models.build import TORCH_DTYPES, build
from profiler.models.catalog import catalog, read_spec
from profiler.models.find import find_model
from profiler.models.spec import ModelSpec

EXPECTED = {
    "wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "ltx-video-2b", "cogvideox-5b", "hunyuan-video", "qwen-image", "sdxl", "sd1.5",
    "flux.1-dev",
}  # fmt: skip
UNSOURCED = {"id", "name", "sources", "origin", "reference"}


def leaves(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict) and value:
        return [leaf for name, item in value.items() for leaf in leaves(item, f"{path}.{name}".lstrip("."))]
    return [path]


def test_has_the_models_of_the_readme() -> None:
    assert set(catalog()) >= EXPECTED


@pytest.mark.parametrize("spec", catalog().values(), ids=str)
def test_every_value_has_a_source(spec: ModelSpec) -> None:
    data = {name: value for name, value in spec.model_dump(by_alias=True).items() if name not in UNSOURCED}
    unsourced = [leaf for leaf in leaves(data) if not any(f"{leaf}.".startswith(f"{key}.") for key in spec.sources)]
    assert unsourced == []


@pytest.mark.parametrize("spec", catalog().values(), ids=str)
def test_components_have_their_published_element_counts(spec: ModelSpec) -> None:
    for component in (spec.vae, spec.denoiser):
        assert component is not None
        module = build(component, TORCH_DTYPES[component.dtype])
        assert sum(parameter.numel() for parameter in module.parameters()) == component.parameters


@pytest.mark.parametrize("spec", catalog().values(), ids=str)
def test_tokens_agree_with_the_patch_embedding(spec: ModelSpec) -> None:
    from profiler.stages import Stage

    assert spec.default is not None
    workload = spec.workload("patch-embed")
    stage = Stage(workload, spec)
    meta = torch.device("meta")
    stage.load(meta)
    stage.make_inputs(meta)
    shape = stage().shape
    text = spec.text.length if spec.id == "cogvideox-5b" and spec.text else 0  # its embedding joins the text
    positions = shape[1] if len(shape) == 3 else shape[2:].numel()
    assert positions == spec.tokens(spec.default) + text


def test_unknown_name_offers_near_ones() -> None:
    with pytest.raises(UserError, match=r"no model 'wan2.1-t2v-13b'.*did you mean 'wan2.1-t2v-1.3b'"):
        find_model("wan2.1-t2v-13b")


def test_a_file_with_mistakes_names_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("id: x\nname: x\nlatent: {layout: BCWH, channels: -1, spatial_compression: 8}\nvaee: 1\n")
    with pytest.raises(UserError) as caught:
        read_spec(path)
    for place in ("latent.layout", "latent.channels", "vae: Field required", "vaee: Extra inputs"):
        assert place in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("- 1", "expected a mapping"), ("a: [", "not YAML")])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_spec(path)


def test_a_missing_file() -> None:
    with pytest.raises(UserError, match="No such file"):
        find_model("nowhere.yaml")


@pytest.mark.parametrize(
    ("model", "stage", "size", "message"),
    [
        ("wan2.1-t2v-1.3b", "decode", {"frames": 80}, "nearest: 77 or 81"),
        ("ltx-video-2b", "decode", {"frames": 10}, "8k.1; nearest: 9 or 17"),
        ("sdxl", "decode", {"frames": 2}, "image model"),
        ("wan2.1-t2v-1.3b", "decode", {"height": 481}, "multiple of 8.*nearest: 480 or 488"),
        ("wan2.1-t2v-1.3b", "denoise", {"height": 488}, "multiple of 16.*nearest: 480 or 496"),
        ("sd1.5", "decode", {"width": 4}, "nearest: 8"),
        ("sd1.5", "decode", {"width": 0}, "width: expected a positive integer"),
    ],
)
def test_a_size_that_the_contract_does_not_allow(model: str, stage: Any, size: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_model(model).workload(stage, **size)


def test_a_model_without_a_size_asks_for_it() -> None:
    spec = find_model("sd1.5").model_copy(update={"default": None})
    with pytest.raises(UserError, match=r"--height, --width"):
        spec.workload("decode", frames=1)


def test_a_model_without_a_denoiser_says_so() -> None:
    spec = find_model("sd1.5").model_copy(update={"denoiser": None})
    with pytest.raises(UserError, match="describes no denoiser"):
        spec.workload("denoise")
