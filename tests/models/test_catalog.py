"""The catalog's files are valid, sourced and true to the classes that they name."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from profiler.data.workload import MemoryOptions
from profiler.errors import UserError
from profiler.files.load import built, from_dict, read_own, read_yaml
from profiler.models.build import component_class
from profiler.models.catalog import MODELS, catalog, catalog_model, model_ids, read_spec
from profiler.models.find import find_model
from profiler.models.spec import ModelSpec
from tests.models.small import unique

EXPECTED = {
    "wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "ltx-video-2b", "cogvideox-5b", "hunyuan-video", "qwen-image", "sdxl", "sd1.5",
    "flux.1-dev",
}  # fmt: skip
UNSOURCED = {"id", "name", "family", "unknown", "sources"}


def leaves(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict):
        return [leaf for name, item in value.items() for leaf in leaves(item, f"{path}.{name}".lstrip("."))]
    return [path]


def test_has_the_models_of_the_readme() -> None:
    assert set(catalog()) >= EXPECTED


@pytest.mark.parametrize("model", model_ids())
def test_a_file_is_named_by_its_id_and_says_where_each_value_comes_from(model: str) -> None:
    data = read_yaml(MODELS / f"{model}.yaml")
    assert data["id"] == model
    values = {name: value for name, value in data.items() if name not in UNSOURCED and value is not None}
    unsourced = [
        leaf for leaf in leaves(values) if not any(f"{leaf}.".startswith(f"{key}.") for key in data["sources"])
    ]
    assert unsourced == []
    assert {name for name, value in data.items() if value is None} <= set(data.get("unknown", {}))


@pytest.mark.parametrize(("model", "part"), [(name, part) for part in ("vae", "denoiser") for name in unique(part)])
def test_components_have_their_published_element_counts(model: str, part: str) -> None:
    component = getattr(find_model(model), part)
    with torch.device("meta"):
        module = component_class(component.class_name).from_config(component.config)
    assert sum(parameter.numel() for parameter in module.parameters()) == component.parameters


def test_unknown_name_offers_near_ones() -> None:
    with pytest.raises(UserError, match=r"no model 'wan2.1-t2v-13b'.*did you mean 'wan2.1-t2v-1.3b'"):
        find_model("wan2.1-t2v-13b")
    for said, meant in (("FLUX.1 [dev]", "flux.1-dev"), ("Flux", "flux.1-dev"), ("stable-diffusion-xl", "sdxl")):
        with pytest.raises(UserError, match=f"no model '{re.escape(said)}': did you mean '{meant}'"):
            find_model(said)
    with pytest.raises(UserError, match="did you mean 'svd-xt'"):
        find_model("stable-video-diffusion")  # by the name that it has


def refusal(tmp_path: Path, text: str) -> str:
    """What is said of a model file with such a text."""
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_spec(path)
    return str(caught.value)


def test_a_file_with_mistakes_names_all_of_them(tmp_path: Path) -> None:
    said = refusal(
        tmp_path,
        "id: x\nname: x\nlatent: {layout: BCWH, channels: -1, spatial_compression: 8, frame_rule: 0k+1}\nvaee: 1\n",
    )
    for place in ("latent.layout", "latent.channels", "latent.frame_rule", "vae: Field required", "vaee: Extra inputs"):
        assert place in said


def test_the_names_of_a_files_keys_are_told_and_not_those_of_fields(tmp_path: Path) -> None:
    said = refusal(
        tmp_path,
        "id: x\nname: x\ncontract: null\nvae: {class: 1, class_name: A, config: {}, dtype: fp32, subfolder: 0}\n",
    )
    assert said.splitlines()[1:] == [
        "  latent: Field required",
        "  vae.class: Input should be a valid string",
        "  vae.subfolder: Input should be a valid string",
        "  vae.class_name: Extra inputs are not permitted",
        "  contract: Extra inputs are not permitted",
    ]


@pytest.mark.parametrize("model", model_ids())
def test_a_shipped_file_is_read_unchecked_as_it_is_read_checked(model: str) -> None:
    data = read_yaml(MODELS / f"{model}.yaml")
    checked = from_dict(ModelSpec, data)
    assert repr(built(ModelSpec, data)) == repr(checked)  # which tells a tuple from a list, 1 from 1.0 and true
    assert built(ModelSpec, data) == checked
    assert not checked.allow_pickle


@pytest.mark.parametrize("change", [("name:", "nam:"), ("layout: BCHW", "layuot: BCHW")])
def test_a_shipped_file_with_a_misspelt_key_is_checked(tmp_path: Path, change: tuple[str, str]) -> None:
    text = (MODELS / "sdxl.yaml").read_text(encoding="utf-8")
    (tmp_path / "sdxl.yaml").write_text(text.replace(*change, 1))
    with pytest.raises(UserError, match=r"not a model file:\n(.*\n)*.*Extra inputs are not permitted"):
        read_own(ModelSpec, tmp_path / "sdxl.yaml", "a model file")


@pytest.mark.parametrize(("text", "message"), [("- 1", "expected a mapping"), ("a: [", "not YAML")])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str, message: str) -> None:
    assert re.search(message, refusal(tmp_path, text))


def test_a_missing_file() -> None:
    with pytest.raises(UserError, match="No such file"):
        find_model("nowhere.yaml")


@pytest.mark.parametrize(
    ("model", "stage", "size", "message"),
    [
        ("wan2.1-t2v-1.3b", "decode", {"frames": 80}, "nearest: 77 or 81"),
        ("ltx-video-2b", "decode", {"frames": 10}, "8k.1, as .* needs; nearest: 9 or 17"),
        ("sdxl", "decode", {"frames": 2}, "image model"),
        ("wan2.1-t2v-1.3b", "decode", {"height": 481}, "multiple of 8.*nearest: 480 or 488"),
        ("wan2.1-t2v-1.3b", "denoise", {"height": 488}, "multiple of 16.*nearest: 480 or 496"),
        ("sd1.5", "decode", {"width": 4}, "nearest: 8$"),
        ("flux.2-klein-9b", "roundtrip", {"height": 920}, "multiple of 16.*nearest: 912 or 928"),  # its latents in 2x2
        ("allegro", "decode", {"height": 640}, r"200k\+320.*nearest: 520 or 720"),
        ("minimax-h3", "decode", {"frames": 4}, r"17k\+5.*nearest: 5$"),
        ("sd1.5", "decode", {"width": 0}, "width: expected a positive integer"),
        ("cogvideox-5b", "decode", {"frames": 30}, r"4k\+1.*nearest: 29 or 33$"),  # the VAE's own rule
        ("cogvideox-5b", "denoise", {"frames": 29}, r"8k\+1.*nearest: 25 or 33$"),  # its pipeline's
        ("qwen-image", "denoise", {"frames": 5}, "image model"),  # whose VAE takes clips
    ],
)
def test_a_size_that_the_contract_does_not_allow(model: str, stage: Any, size: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_model(model).workload(stage, **size)


@pytest.mark.parametrize(("frames", "decoded"), [(1, 1), (25, 25), (29, 32), (49, 49)])
def test_cogvideoxs_vae_decodes_an_even_number_of_latent_frames_to_four_each(frames: int, decoded: int) -> None:
    """As the class does without data: 8 latent frames, which 29 frames give, come back as 32."""
    spec = find_model("cogvideox-5b")
    assert spec.latent.decoded_shape(1, spec.workload("decode", frames=frames)) == (1, 3, decoded, 480, 720)


@pytest.mark.parametrize(
    ("frames", "latent_frames", "model"),
    [(81, 21, "wan2.1-t2v-14b"), (19, 4, "mochi-1"), (124, 37, "minimax-h3"), (88, 22, "allegro"), (25, 25, "svd-xt")],
)
def test_latent_frames(frames: int, latent_frames: int, model: str) -> None:
    assert find_model(model).latent.latent_frames(frames) == latent_frames


@pytest.mark.parametrize(
    ("model", "frames", "tokens"),
    [
        ("wan2.2-ti2v-5b", 121, 27_280),
        ("cogvideox1.5-5b", 81, 44_880),  # 21 latent frames, padded to 22, two a token
        ("helios", 132, 8_640),  # a window of 9 latent frames, whatever the clip
        ("flux.2-dev", 1, 4_096),
    ],
)
def test_tokens_of_one_forward(model: str, frames: int, tokens: int) -> None:
    spec = find_model(model)
    assert spec.default is not None
    assert spec.tokens(replace(spec.default, frames=frames)) == tokens


def test_reading_one_model_reads_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(
        "profiler.models.catalog.read_own", lambda kind, path, what: read.append(path) or read_own(kind, path, what)
    )
    catalog_model.cache_clear()
    find_model("mochi-1")
    assert [path.name for path in read] == ["mochi-1.yaml"]


def test_a_model_that_runs_with_tiles_only_has_them_switched_on() -> None:
    spec = find_model("allegro")
    workload = spec.workload("decode")
    assert workload.options.tiling
    with pytest.raises(UserError, match="runs with tiles only"):
        spec.check(replace(workload, options=MemoryOptions()))
    assert not spec.workload("denoise").options.tiling


def test_a_closed_model_gives_its_closed_form_and_refuses_the_rest() -> None:
    with pytest.raises(
        UserError, match=r"closed.*256x768x768: 1 x 16 x 32 x 96 x 96, 9.0 MiB in 16 bit, 73,728 tokens"
    ):
        find_model("movie-gen").workload("decode")
    with pytest.raises(UserError, match=r"81x480x832: 1 x 16 x 11 x 60 x 104"):
        find_model("movie-gen").workload("denoise", frames=81, height=480, width=832)


@pytest.mark.parametrize("model", ["sora", "veo-3"])
def test_a_closed_model_without_a_contract_says_what_is_not_public(model: str) -> None:
    with pytest.raises(UserError, match=r"closed.*latent: .*`latentmeter latent`"):
        find_model(model).workload("decode")
    with pytest.raises(UserError, match="no latent contract"):
        _ = find_model(model).latent


def test_a_model_without_a_size_asks_for_it() -> None:
    spec = replace(find_model("sd1.5"), default=None)
    with pytest.raises(UserError, match="give --height, --width"):
        spec.workload("decode", frames=1)


def test_a_model_without_a_denoiser_says_so() -> None:
    spec = replace(find_model("sd1.5"), denoiser=None)
    with pytest.raises(UserError, match="describes no denoiser"):
        spec.workload("denoise")
