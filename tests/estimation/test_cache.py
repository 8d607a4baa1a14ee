"""What names a kept answer and a recording: everything that decides them, and nothing that does not."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from profiler.data.workload import History, MemoryOptions
from profiler.estimation.cache import EstimateCache
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.models.find import find_model

IMAGE = find_model("tests/models/tiny-image.yaml")
STACK = assumed_stack(find_gpu("h200"), "2.13.0")
WORKLOAD = IMAGE.workload("decode")
KEY = EstimateCache(WORKLOAD, IMAGE, STACK).key


def test_a_recording_is_of_one_torch() -> None:
    assert EstimateCache(WORKLOAD, IMAGE, replace(STACK, torch="2.12.0")).key != KEY


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "encode"},
        {"dtype": "bf16"},
        {"options": MemoryOptions(slicing=True)},
        {"history": History(device_map=True)},
    ],
    ids=str,
)
def test_a_recording_is_of_one_workload(change: dict[str, Any]) -> None:
    assert EstimateCache(replace(WORKLOAD, **change), IMAGE, STACK).key != KEY


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}},
        {"settings": {"allow_tf32": "false"}},
        {"capability": (8, 9)},
        {"cudnn": 91002},
        {"gpu": "Another", "multiprocessors": 1, "device_total_bytes": 1},
    ],
    ids=str,
)
def test_a_recording_serves_every_card_but_an_answer_one(change: dict[str, Any]) -> None:
    other = EstimateCache(WORKLOAD, IMAGE, replace(STACK, **change))
    assert other.key == KEY
    assert other._question != EstimateCache(WORKLOAD, IMAGE, STACK)._question


def test_a_recording_serves_every_size() -> None:
    assert EstimateCache(replace(WORKLOAD, height=64, width=96, batch=2), IMAGE, STACK).key == KEY


def test_what_recordings_do_not_depend_on_takes_no_part_in_a_trace() -> None:
    code = """
import sys
from profiler.estimation.estimator import estimate
from profiler.estimation.shipped import UNTRACED
from profiler.machine.cards import assumed_stack, gpu
from profiler.models.spec import ModelSpec
from profiler.files.load import read_own
spec = read_own(ModelSpec, __import__('pathlib').Path('tests/models/tiny-image.yaml'), '')
for stage in ("roundtrip", "denoise"):
    estimate(spec.workload(stage), spec, assumed_stack(gpu("h200")))
names = {f"profiler.{path.removesuffix('.py').replace('/', '.')}" for path in UNTRACED if "__init__" not in path}
assert all(__import__('importlib.util').util.find_spec(name) for name in names)
found = {f"profiler.models.{name}" for name in ("find", "catalog", "not_here")}  # by the interface
found |= {"profiler.stages.call"}  # what it knows of hooks makes a note
copies = ("repeated_calls", "trees", "attributes")  # without which a trace finds the same
found |= {f"profiler.trace.{name}" for name in copies}
print(sorted(names & set(sys.modules) - found))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout == "[]\n", ran.stderr
