"""What names a kept answer and a recording: everything that decides them, and nothing that does not."""

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


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}},
        {"settings": {"allow_tf32": "false"}},
        {"capability": (8, 9)},
        {"torch": "2.12.0"},
        {"cudnn": 91002},
    ],
    ids=str,
)
def test_a_recording_is_of_one_kind_of_stack(change: dict[str, Any]) -> None:
    assert EstimateCache(WORKLOAD, IMAGE, replace(STACK, **change)).key != KEY


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "encode"},
        {"batch": 2},
        {"dtype": "bf16"},
        {"options": MemoryOptions(slicing=True)},
        {"history": History(device_map=True)},
    ],
    ids=str,
)
def test_a_recording_is_of_one_workload(change: dict[str, Any]) -> None:
    assert EstimateCache(replace(WORKLOAD, **change), IMAGE, STACK).key != KEY


def test_a_recording_serves_every_size_and_every_card_of_an_architecture() -> None:
    assert EstimateCache(replace(WORKLOAD, height=64, width=96), IMAGE, STACK).key == KEY
    other = replace(STACK, gpu="Another", multiprocessors=1, device_total_bytes=1)
    assert EstimateCache(WORKLOAD, IMAGE, other).key == KEY
