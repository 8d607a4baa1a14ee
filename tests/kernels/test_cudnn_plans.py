"""The planner: what was shipped or asked before is used, cuDNN is asked where it is installed, else nobody guesses."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import profiler
from profiler.data.shown import first_notes
from profiler.data.stack import Stack, format_cudnn
from profiler.files.paths import CONFIGS
from profiler.kernels import cudnn_library
from profiler.kernels import cudnn_plans as planning
from profiler.kernels.convolution import Convolution
from profiler.kernels.cudnn_library import front_end_version, installed_cudnn
from profiler.kernels.cudnn_plans import SHIPPED_BY, Planner, question_of, shipped_plans
from profiler.machine.cards import assumed_stack, find_gpu, gpus


def conv(**changes: Any) -> Convolution:
    values: dict[str, Any] = {
        "x": (1, 128, 40, 40), "weight": (64, 128, 3, 3), "y": (1, 64, 40, 40), "dtype": "bfloat16",
        "padding": (1, 1), "stride": (1, 1), "dilation": (1, 1), "groups": 1, "channels_last": False, "transposed": False,
    }  # fmt: skip
    return Convolution(**(values | changes))


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LATENTMETER_CACHE", "on")
    return tmp_path / "latentmeter"


@pytest.fixture
def without_cudnn(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    found_once = (front_end_version, installed_cudnn)
    monkeypatch.setattr(cudnn_library, "library", lambda: None)
    for function in found_once:
        function.cache_clear()
    yield
    for function in found_once:
        function.cache_clear()


def stack(gpu: str = "h200") -> Stack:
    return assumed_stack(find_gpu(gpu), "2.13.0")


def test_a_question_holds_everything_that_decides_a_plan() -> None:
    asked = {
        question_of(conv(**changes), tf32=tf32)
        for tf32 in (True, False)
        for changes in (
            {}, {"x": (2, 128, 40, 40)}, {"weight": (32, 128, 3, 3)}, {"dtype": "float16"}, {"dtype": "float32"},
            {"padding": (0, 0)}, {"stride": (2, 2)}, {"dilation": (2, 2)}, {"groups": 2}, {"channels_last": True},
            {"transposed": True}, {"transposed": True, "y": (1, 64, 41, 41)},
        )
    }  # fmt: skip
    assert len(asked) == 13  # TF32 matters to fp32 alone


@pytest.mark.usefixtures("without_cudnn")
def test_without_cudnn_the_closed_form_answers_and_the_estimate_says_so() -> None:
    assert Planner(stack()).workspace_bytes(conv()) is None
    found = profiler.estimate("sd1.5", gpu="h200", height=344, width=344)
    assert found.routes["convolution cudnn, closed form"] == 36
    said = first_notes(found.notes)["stack.planner"]
    assert said.startswith(
        "workspace of 36 of 36 convolutions by a closed form, which is approximate and read off cuDNN 9.20.0"
    )
    assert said.endswith("asked: `pip install nvidia-cublas 'nvidia-cudnn-cu13==9.20.*'` brings one")
    assert "stack.planner" in found.notes["terms.workspace"]


@pytest.mark.usefixtures("without_cudnn")
def test_the_catalog_at_its_published_size_is_planned_without_cudnn() -> None:
    found = profiler.estimate("qwen-image", gpu="rtx-4090", torch="2.13.0")
    assert found.routes["convolution cudnn, planned"] == 37
    assert not {"terms.workspace", "stack.planner", "stack.cudnn"} & found.notes.keys()


@pytest.mark.parametrize("gpu", gpus())
def test_shipped_plans_are_for_the_cards_record(gpu: str) -> None:
    card = find_gpu(gpu)
    found = shipped_plans(card)
    assert len(found) > 500 if card.properties else not found


def test_every_answer_has_a_question_and_the_files_stay_small() -> None:
    questions = (CONFIGS / "plans" / "questions.txt").read_text().splitlines()
    assert len(questions) == len(set(questions))
    for path in (CONFIGS / "plans").glob("*.json"):
        assert len(json.loads(path.read_text())["bytes"]) <= len(questions)
    assert sum(path.stat().st_size for path in (CONFIGS / "plans").iterdir()) < 6 << 20


@pytest.mark.usefixtures("without_cudnn")
def test_an_edited_record_makes_shipped_plans_void(monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_gpu("h200")
    changed = replace(card, properties={**(card.properties or {}), "multiProcessorCount": 1})
    monkeypatch.setattr(planning, "gpu_named", lambda _: changed)
    found = profiler.estimate("qwen-image", gpu="h200")
    assert "convolution cudnn, planned" not in found.routes


def test_answers_are_kept_for_the_next_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "front_end_version", lambda: "1")
    monkeypatch.setattr(planning, "installed_cudnn", lambda: SHIPPED_BY)
    monkeypatch.setattr(Planner, "_ask", lambda self, question: 77)
    first = Planner(stack())
    assert first.workspace_bytes(conv()) == 77
    first.close()
    monkeypatch.setattr(Planner, "_ask", lambda self, question: None)
    second = Planner(stack())
    assert second.workspace_bytes(conv()) == 77
    assert (second.answered["cached"], second.answered["asked"]) == (1, 0)
    assert Planner(stack("a100")).workspace_bytes(conv()) is None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions that reach cuDNN, which answers 77 here."""
    questions: list[str] = []
    monkeypatch.setattr(planning, "front_end_version", lambda: "1")
    monkeypatch.setattr(planning, "installed_cudnn", lambda: SHIPPED_BY)
    monkeypatch.setattr(Planner, "_ask", lambda self, question: questions.append(question) or 77)
    return questions


def plan(*convolutions: Convolution) -> list[int | None]:
    """As a process of its own would."""
    planner = Planner(stack())
    try:
        return [planner.workspace_bytes(convolution) for convolution in convolutions]
    finally:
        planner.close()


@pytest.mark.parametrize(
    "garbage",
    [b"", b"{", b"\xff\xfe", b'"x"', b"[1]", b"null", b'{"x": 78}', b"[" * 100_000],
    ids=["empty", "torn", "no text", "text", "list", "null", "hand-made", "deep"],
)
def test_a_garbage_plan_cache_is_asked_again_and_written_anew(
    garbage: bytes, asked: list[str], empty_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert plan(conv()) == [77]
    (path,) = (empty_cache / "plans").iterdir()
    path.write_bytes(garbage.replace(b"x", asked[0].encode()))
    with caplog.at_level(logging.INFO, "profiler"):
        assert [plan(conv()), plan(conv())] == [[77], [77]]
    assert len(asked) == 2
    assert [message for message in caplog.messages if "damaged" in message] == [f"{path} is damaged, and removed"]


def test_what_two_processes_asked_is_kept_by_both(asked: list[str]) -> None:
    one, other = Planner(stack()), Planner(stack())
    one.workspace_bytes(conv())
    other.workspace_bytes(conv(groups=2))
    one.close()
    other.close()
    assert plan(conv(), conv(groups=2)) == [77, 77]
    assert len(asked) == 2


def test_switched_off_no_plan_is_read_or_kept(
    asked: list[str], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = {"model": "tests/models/tiny-image.yaml", "gpu": "h200", "height": 44, "width": 52}
    profiler.estimate(**question, cache=False)
    assert asked
    assert not empty_cache.exists()
    profiler.estimate(**question)
    first, asked[:] = len(asked), []
    profiler.estimate(**question, cache=False)
    assert 2 * len(asked) == first
    monkeypatch.setenv("LATENTMETER_CACHE", "off")
    profiler.estimate(**question)
    assert len(asked) == first


def test_plans_that_cannot_be_kept_are_no_error(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    assert [plan(conv()), len(asked)] == [[77], 1]


def test_a_card_without_a_record_is_not_planned() -> None:
    assert Planner(Stack(device="cuda", gpu="Somebody's card", torch="2.13.0")).workspace_bytes(conv()) is None


def test_plans_of_ltx_2s_vocoder_are_those_of_a_real_h100(without_cudnn: None) -> None:
    """Two transposed ones and one of which only a fallback of cuDNN's is left, as a whole generation borrowed for them."""

    def planned(x: int, y: int, channels: tuple[int, int], taps: int, **rest: Any) -> int | None:
        weight = (*channels, taps)
        sides = {"x": (1, 512 if taps > 4 else 128, x), "y": (1, channels[1], y), "weight": weight, "dilation": (1,)}
        return Planner(stack("h100")).workspace_bytes(conv(**sides | {"transposed": True} | rest))

    assert Planner(stack()).workspace_bytes(conv(transposed=True)) is None
    assert planned(3006, 15030, (512, 256), 15, stride=(5,), padding=(5,)) == 14_705_680
    assert planned(30060, 60120, (128, 64), 4, stride=(2,), padding=(1,)) == 15_456_272
    plain = {"stride": (1,), "padding": (25,), "dilation": (5,), "transposed": False}
    assert planned(3006, 3006, (512, 512), 11, **plain) == 0


def test_cudnn_itself_gives_the_shipped_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    if (installed_cudnn() or 0) // 100 != SHIPPED_BY // 100 or front_end_version() is None:
        pytest.skip("cuDNN 9.20 is not installed to be asked (pip install .[planner] nvidia-cudnn-cu13==9.20.*)")
    shipped = shipped_plans(find_gpu("h200"))
    planner = Planner(stack())
    for question in list(shipped)[::50]:
        assert planner._ask(question) == shipped[question]
    planner.close()


def test_plans_that_are_shipped_are_of_the_version_that_is_said() -> None:
    for path in sorted(CONFIGS.joinpath("plans").glob("*.json")):
        version = json.loads(path.read_text(encoding="utf-8"))["planned_by"].partition("-")[2]
        assert format_cudnn(SHIPPED_BY) == version.rpartition(".")[0], path


@pytest.mark.parametrize(
    ("wanted", "installed", "order"),
    [
        (92000, None, "shipped, installed"),
        (92000, 92000, "shipped, installed"),
        (92000, 92601, "shipped"),
        (91900, 91900, "installed, shipped"),
        (91900, 92601, "shipped"),
        (92600, 92601, "installed, shipped"),
        (92400, 92601, "installed, shipped"),
        (90501, 90501, "installed, shipped"),
        (90501, 92801, "shipped"),
    ],
)
def test_who_is_nearer_to_the_stacks_version_is_asked(
    wanted: int, installed: int | None, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "installed_cudnn", lambda: installed)
    planner = Planner(replace(stack(), cudnn=wanted))
    assert ", ".join(source.__name__.strip("_") for source in planner._nearest) == order


def test_the_card_itself_is_asked_first_but_for_a_dry_run() -> None:
    """On a real H200 the copy of 40,370,403 bytes is 2 MB smaller: blocks that share a sum all run at once there."""
    question = "float16 1,512,128,128 512,512,3,3 1,1 1,1 1,1 1 contiguous half"
    real, dry = stack(), replace(stack(), settings={"LATENTMETER_DRY": "1"})
    assert [Planner(one).answer(question) for one in (real, dry)] == [38273040, 40370403]
    for one in (replace(real, cudnn=92600), stack("rtx-4090")):
        assert not any(plans for _, plans in Planner(one)._plans_on_cards)


def test_what_the_card_was_not_asked_its_sibling_was() -> None:
    """SDXL's U-Net with guidance: on an H100 and an H200 the copy of 28,344,467 bytes has 44,073,615 in it."""
    question = "float16 2,640,64,64 640,640,3,3 1,1 1,1 1,1 1 contiguous half"
    real, dry = stack(), replace(stack(), settings={"LATENTMETER_DRY": "1"})
    assert [Planner(one).answer(question) for one in (real, dry)] == [44073615, 28344467]


def test_plans_of_another_version_are_not_taken_for_the_stacks(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan that 9.20 shipped is asked of 9.26 for a stack of 9.26; a new one is not asked of it for one of 9.20."""
    monkeypatch.setattr(planning, "installed_cudnn", lambda: 92601)
    known = next(iter(shipped_plans(find_gpu("h200"))))
    newer = Planner(replace(stack(), cudnn=92600))
    assert newer.answer(known) == 77
    assert newer.sources.planned_by == {92601: 1}
    older = Planner(stack())
    assert older.answer(known) != 77
    assert older.workspace_bytes(conv()) is None
    assert older.sources.planned_by == {92000: 1}
    assert [*older.sources.unplanned] == [
        "cuDNN 9.26.1 is installed, and plans otherwise; with 9.20.0 in its place they would be"
    ]
    assert asked == [known]
