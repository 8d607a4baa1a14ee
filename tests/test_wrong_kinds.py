"""A value of a kind that none takes ends in a sentence that names it, in Python as in a mark, before anything is traced."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import profiler
from profiler.data.stack import Stack
from profiler.data.workload import GenerationOptions, History, Placement
from profiler.errors import UserError
from profiler.machine.cards import GPUS, assumed_stack, find_gpu
from profiler.stages.call import root_of

NET = torch.nn.Linear(4, 4)
X = torch.empty(1, 4)
TEXT = "expected text, such as"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gpu": 4090}, f"gpu: {TEXT} 'rtx-4090', got int 4090"),
        ({"torch": 2.11}, f"torch: {TEXT} '2.7.1', got float 2.11"),
        ({"cudnn": "92000"}, "cudnn: expected a whole number, such as 90501, got str '92000'"),
        ({"cudnn": True}, "cudnn: expected a whole number, such as 90501, got bool True"),
        ({"alloc_conf": {"expandable_segments": True}}, f"alloc_conf: {TEXT} 'expandable_segments:True', got dict {{"),
        ({"stack": "h200"}, "stack: expected a Stack, such as the `stack` of an estimate, got str 'h200'"),
        ({"tiling": "yes"}, "tiling: expected a bool, such as True, got str 'yes'"),
        ({"tiling": True, "tile": 256}, "tile: expected two positive integers (height, width), got 256"),
        (
            {"options": {"tiling": True}},
            "options: expected a MemoryOptions, such as MemoryOptions(tiling=True), got dict",
        ),
        ({"options": {"tiling": True}, "slicing": True}, "options: expected a MemoryOptions"),
        ({"history": "81x480x832"}, "history: expected a History, such as History(sizes=((81, 480, 832),)), got str"),
    ],
)
def test_of_an_estimate(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as told:
        profiler.estimate("sd1.5", **given)
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Placement(offload="group-leaf", stream="yes"), "stream: expected a bool, such as True, got str 'yes'"),
        (lambda: History(empty_cache=1), "empty_cache: expected a bool"),
        (lambda: History(sizes=81), r"history: expected \(frames, height, width\) of positive integers, got 81"),
        (lambda: History(sizes=(81, 480, 832)), "history: .* got 81"),
    ],
)
def test_of_what_is_made_beforehand(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_of_modules_that_are_none() -> None:
    with pytest.raises(UserError, match=r"modules: .*int.*: give a module, several, or several by name"):
        root_of([NET, 3])


@pytest.mark.parametrize(
    "verb", [profiler.generate, lambda *a, **k: profiler.hotspots(*a, "generate", **k), profiler.fit]
)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"placement": "model"},
            "placement: expected a Placement, such as Placement(offload='model'), got str 'model'",
        ),
        ({"options": {"tiling": True}}, "options: expected a MemoryOptions"),
        ({"steps": "3"}, "steps: expected a positive integer, got '3'"),
        ({"steps": 0}, "steps: expected a positive integer, got 0"),
        ({"height": 0}, "height: expected a positive integer, got 0"),
        ({"guidance": math.nan}, "guidance: expected a number from -1,000,000 to 1,000,000, got nan"),
        ({"guidance": "7"}, "guidance: expected a number from -1,000,000 to 1,000,000, got '7'"),
        ({"dtype": "int8"}, "dtype: no dtype 'int8'; one of fp32, fp16, bf16"),
    ],
)
def test_of_a_generation(verb: Callable[..., Any], given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as told:
        verb("sd1.5", gpu="rtx-4090", **given)
    assert message in str(told.value)


def test_a_batch_of_none_is_no_batch_of_one(latentmeter: Any) -> None:
    for words in (
        ["fit", "sd1.5"],
        ["fit", "sd1.5", "--stage", "decode"],
        ["estimate", "sd1.5", "--stage", "generate"],
    ):
        done = latentmeter(*words, "--gpu", "rtx-4090", "--batch", 0)
        assert (done.code, "batch: expected a positive integer, got 0" in done.err) == (2, True)


def test_guidance_of_a_sweep_is_finite_too() -> None:
    with pytest.raises(UserError, match="guidance: expected a number"):
        GenerationOptions(guidance=math.inf)


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        ("flux.1-dev", {}, "function: expected one, a module or a pipeline, got 'flux.1-dev'; estimate takes a name"),
        (NET, {"modules": "vae"}, "modules: str is not a Module subclass: give a module, several, or several by name"),
        (NET, {"modules": {"a.b": NET}}, "give a module, several, or several by name"),
        (NET, {"placement": "model"}, "placement: expected a Placement"),
        (NET, {"inputs": X}, "inputs: expected a list or a mapping, got Tensor; [tensor] for one"),
        (NET, {"inputs": "x"}, "inputs: expected a list or a mapping, got str"),
        (NET, {"gpu": 4090}, "gpu: expected text"),
    ],
)
def test_of_a_call(function: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as told:
        profiler.estimate_call(function, **{"inputs": [X], "gpu": "rtx-4090"} | given)
    assert message in str(told.value)


@pytest.mark.parametrize(("before", "after"), [(None, None), ([1], [2]), (3, "nowhere")])
def test_of_a_comparison(before: Any, after: Any) -> None:
    with pytest.raises(UserError, match="expected the folder of a run, or its records, got"):
        profiler.compare(before, after)


@pytest.mark.parametrize("given", [{"gpu": "rtx-4090"}, {"vram": "12GiB"}, {"torch": "2.13.0"}, {"cudnn": 90501}])
def test_a_stack_says_its_card_and_versions_itself(given: dict[str, Any]) -> None:
    stack: Stack = assumed_stack(find_gpu("h200"))
    with pytest.raises(UserError, match=f"{next(iter(given))}: a stack has its own"):
        profiler.estimate("sd1.5", stack=stack, **given)


def test_a_card_file_may_be_a_path(tmp_path: Path) -> None:
    card = yaml.safe_load((GPUS / "l4.yaml").read_text(encoding="utf-8")) | {"name": "Mine"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    found = profiler.estimate_call(NET, inputs=[X], gpu=tmp_path / "mine.yaml", torch="2.13.0")
    assert found.stack.gpu == "Mine"
