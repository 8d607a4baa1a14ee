"""The plan: what a sweep file stands for, and what is said of one that is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from profiler.errors import UserError
from profiler.files.load import from_dict
from profiler.files.paths import CONFIGS
from profiler.sweeps.plan import Case, Sweep, find_sweep, plan_sweep

IMAGE = "tests/models/tiny-image.yaml"
VIDEO = "tests/models/tiny-video.yaml"
SHIPPED = sorted((CONFIGS / "sweeps").glob("*.yaml"))

axes = st.lists(st.sampled_from([32, 64, 96]), min_size=1, max_size=4)


def plan(*entries: dict[str, Any]) -> list[Case]:
    return plan_sweep(from_dict(Sweep, {"name": "s", "title": "t", "cases": entries})).cases


def keys(*entries: dict[str, Any]) -> list[str]:
    return [case.key for case in plan(*entries)]


def test_an_entry_stands_for_the_product_of_its_axes_in_their_order() -> None:
    entry = {"model": IMAGE, "stages": ["decode", "encode"], "height": [32, 64], "batch": [1, 2]}
    assert keys(entry) == [
        f"{IMAGE}/{stage}/1x{height}x32/b{batch}/fp32"
        for stage in ("decode", "encode")
        for height in (32, 64)
        for batch in (1, 2)
    ]


def test_every_field_that_may_be_a_list_is_an_axis() -> None:
    entry = {
        "model": VIDEO,
        "stages": ["decode"],
        "frames": [1, 5],
        "height": [32, 64],
        "width": [32, 64],
        "batch": [1, 2],
        "dtype": ["fp32", "bf16"],
        "options": [{}, {"tiling": True, "tile": [64, 64]}],
    }
    found = keys(entry)
    assert len(found) == len(set(found)) == 2**6
    assert found[:4] == [
        f"{VIDEO}/decode/1x32x32/b1/{end}" for end in ("fp32", "fp32/tiling64x64", "bf16", "bf16/tiling64x64")
    ]


@given(axes, axes)
def test_a_plan_holds_each_combination_once(heights: list[int], widths: list[int]) -> None:
    cases = plan({"model": IMAGE, "stages": ["decode"], "height": heights, "width": widths})
    sizes = [(case.workload.height, case.workload.width) for case in cases]
    assert len(sizes) == len(set(sizes))
    assert sizes == list(dict.fromkeys((height, width) for height in heights for width in widths))


def test_lists_that_stand_for_millions_of_cases_are_refused_at_once() -> None:
    lengths = list(range(2, 202, 2))
    with pytest.raises(UserError, match=r"cases\.0: more than 10,000 cases"):
        plan({"model": IMAGE, "stages": ["decode"], "height": lengths, "width": lengths, "batch": lengths})


def test_a_repeated_key_keeps_its_first_place() -> None:
    first = {"model": IMAGE, "stages": ["encode"]}
    assert keys(first, {"model": IMAGE, "stages": ["decode", "encode"]}, first) == [
        f"{IMAGE}/encode/1x32x32/b1/fp32",
        f"{IMAGE}/decode/1x32x32/b1/fp32",
    ]


def test_what_is_not_given_comes_from_the_model() -> None:
    (case,) = plan({"model": "wan2.1-t2v-1.3b", "stages": ["decode"]})
    work = case.workload
    assert (work.frames, work.height, work.width, work.batch, work.dtype) == (81, 480, 832, 1, "fp32")
    (case,) = plan({"model": "wan2.1-t2v-1.3b", "stages": ["denoise"]})
    assert case.workload.dtype == "bf16"


def test_an_estimate_for_a_card_is_a_case_of_its_own() -> None:
    here = {"model": IMAGE, "stages": ["decode"]}
    cases = plan(here, here | {"gpu": "RTX 4090"}, here | {"gpu": "rtx-4090"})
    assert [case.card and case.card.id for case in cases] == [None, "rtx-4090"]
    assert [case.key for case in cases] == [f"{IMAGE}/decode/1x32x32/b1/fp32{end}" for end in ("", "@rtx-4090")]
    assert cases[0].workload == cases[1].workload


def test_a_size_that_the_model_does_not_allow_is_a_case_with_a_problem() -> None:
    cases = plan(
        {"model": IMAGE, "stages": ["decode"], "height": [33, 32]}, {"model": VIDEO, "stages": ["decode"], "frames": 6}
    )
    assert [case.problem is None for case in cases] == [False, True, False]
    assert cases[0].problem == "height: 33 is not a multiple of 2, as tiny-image decode needs; nearest: 32 or 34"
    assert cases[2].problem == "frames: 6 is not of the form 4k+1, as tiny-video decode needs; nearest: 5 or 9"


def test_unknown_models_and_cards_are_named_all_at_once() -> None:
    good = {"model": IMAGE, "stages": ["decode"]}
    with pytest.raises(UserError) as caught:
        plan(good | {"model": "wan2.1-t2v-1.4b"}, good, good | {"gpu": "h201"}, good | {"model": "no/such.yaml"})
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["cases.0", "cases.2", "cases.3"]
    assert "did you mean 'wan2.1-t2v-14b' or 'wan2.1-t2v-1.3b'" in lines[1]
    assert "no card 'h201': did you mean 'h20' or 'h200'" in lines[2]
    assert "no/such.yaml: No such file" in lines[3]


def test_options_that_exclude_each_other_are_refused_with_their_place() -> None:
    with pytest.raises(ValidationError, match=r"cases\.0\.options.*\n.*tile: a tile size needs tiling switched on"):
        plan({"model": IMAGE, "stages": ["decode"], "options": {"tile": [8, 8]}})


def test_a_model_without_a_published_size_needs_one(tmp_path: Path) -> None:
    text = Path(IMAGE).read_text().replace("default: {frames: 1, height: 32, width: 32}\n", "")
    model = tmp_path / "sizeless.yaml"
    model.write_text(text)
    with pytest.raises(UserError, match=r"has no published size for stage decode: give --width$"):
        plan({"model": str(model), "stages": ["decode"], "height": 32})


def test_errors_of_a_file_come_all_at_once_with_their_places(sweep_file: Callable[..., Path]) -> None:
    wrong = {"model": IMAGE, "stages": ["decode", "decoed"], "hieght": 32, "batch": 0}
    path = sweep_file({"model": IMAGE, "stages": ["decode"]}, wrong, device="tpu", timeout_seconds=-1, tolerence=1)
    with pytest.raises(UserError) as caught:
        find_sweep(str(path))
    first, *lines = str(caught.value).splitlines()
    assert first == f"{path}: not a sweep file:"
    places = {line.split(":")[0].strip() for line in lines}
    assert {"device", "timeout_seconds", "tolerence", "cases.1.stages.1", "cases.1.hieght"} <= places
    assert any(place.startswith("cases.1.batch") for place in places)
    assert not any(place.startswith("cases.0") for place in places)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "expected a mapping at the top, found list"),
        ("cases: [", "not YAML"),
        ("{name: s, title: t, cases: []}", "cases: List should have at least 1 item"),
        ("{name: s, title: t}", "cases: Field required"),
        ("{name: ../s, title: t, cases: []}", "name: String should match pattern"),
    ],
)
def test_files_that_are_no_sweep(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        find_sweep(str(path))


def test_an_unknown_sweep_names_the_shipped_ones() -> None:
    with pytest.raises(UserError) as caught:
        find_sweep("quikstart")
    assert str(caught.value).endswith("one of " + ", ".join(sorted(path.stem for path in SHIPPED)))
    with pytest.raises(UserError, match=r"quikstart\.yaml: No such file"):
        find_sweep("quikstart.yaml")


def test_a_sweep_is_found_by_name_and_by_path(sweep_file: Callable[..., Path]) -> None:
    assert find_sweep("quickstart") == find_sweep(str(CONFIGS / "sweeps" / "quickstart.yaml"))
    assert find_sweep(str(sweep_file({"model": IMAGE, "stages": ["decode"]}))).name == "tiny"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_sweep_can_be_run(path: Path) -> None:
    sweep = find_sweep(str(path))
    assert sweep.name == path.stem
    cases = plan_sweep(sweep).cases
    assert cases
    assert [case.key for case in cases if case.problem] == []
    assert len({case.key for case in cases}) == len(cases)


@pytest.mark.parametrize("number", [".inf", ".nan"])
@pytest.mark.parametrize("field", ["tolerance_percent", "timeout_seconds"])
def test_a_limit_that_is_no_number_is_refused(tmp_path: Path, field: str, number: str) -> None:
    """It would be in the run's header, which is JSON, and nothing would ever be outside it."""
    path = tmp_path / "sweep.yaml"
    path.write_text(f"name: s\ntitle: S\n{field}: {number}\ncases: [{{model: sd1.5, stages: [decode]}}]\n")
    with pytest.raises(UserError, match=f"not a sweep file:\n  {field}: "):
        find_sweep(str(path))


def test_a_generation_is_of_a_pipeline_with_an_entry_of_its_own() -> None:
    offload = [{}, {"placement": {"offload": "model"}, "steps": 30, "guidance": 5}]
    case = {"model": "sd1.5", "stages": ["generate"], "options": {"tiling": True}, "generation": offload}
    found = plan_sweep(from_dict(Sweep, {"name": "s", "title": "t", "cases": [case, case | {"gpu": "t4"}]}))
    key = "sd1.5/generate/1x512x512/b1/fp16/tiling"
    keys = [key, f"{key}/offload-model+steps-30+guidance-5"]
    assert [case.key for case in found.cases] == [*keys, *(f"{key}@t4" for key in keys)]
    assert list(found.identity["models"]) == ["sd1.5/generate"]
    assert found.models == {}  # others' formulas are of stages


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"stages": ["decode", "generate"]},
            "generation: .*; decode takes none, and an entry of its own",
        ),
        ({"stages": ["decode"], "generation": {"steps": 3}}, "generation: goes with stage generate; decode takes none"),
        ({"stages": ["generate"], "history": {"empty_cache": True}}, "history: goes with a single stage"),
        ({"stages": ["generate"], "model": "allegro"}, "'allegro': its pipeline is not described"),
        ({"stages": ["generate"], "generation": {"steps": 0}}, "steps: "),
    ],
)
def test_what_is_no_generation_says_what_there_is(entry: dict[str, Any], message: str) -> None:
    with pytest.raises((UserError, ValidationError), match=message):
        plan({"model": "sd1.5"} | entry)
