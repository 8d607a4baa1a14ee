"""The cache: entries that are damaged, mutated or another's. Whatever is found, the answer is right or there is none."""

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from profiler.data.records import Estimate
from profiler.data.workload import DtypeName, Workload
from profiler.estimation.cache import EstimateCache
from profiler.files.cache import DIGEST_BYTES
from profiler.kernels import cudnn_plans
from profiler.kernels.cudnn_plans import Planner
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.models.find import find_model
from tests.fuzz.damage import IN_BYTES, IN_VALUES, damaged

NAME = "cache"
IMAGE = find_model(str(Path(__file__).parents[1] / "models" / "tiny-image.yaml"))
STACK = assumed_stack(find_gpu("h200"), "2.13.0")
WORKLOAD, OTHER = IMAGE.workload("decode"), IMAGE.workload("decode", height=64, width=48)
QUESTION, PLANNED = "float16 1,8,16,16 8,8,3,3 1,1 1,1 1,1 1 contiguous half", 77
ACCIDENTS = ("file", "file", "value", "value", "value", "another's")


def inputs(random: Random) -> Iterator[dict[str, Any]]:
    """Which entry, and what happens to it: to its bytes, to a value inside, or it is that of another question.

    What a file holds changes with this package's version, so the input is a seed for its damage, not the bytes.
    """
    while True:
        kinds = ("answers", "traces", "plans")
        yield {"entry": random.choice(kinds), "accident": random.choice(ACCIDENTS), "seed": random.getrandbits(32)}


def check(value: Any, folder: Path) -> None:
    """Raises where the damaged entry makes the question fail, or its answer another."""
    changes = {"XDG_CACHE_HOME": str(folder), "LATENTMETER_CACHE": "on"}
    ask = {"answers": ask_answer, "traces": ask_recording, "plans": ask_plans}[value["entry"]]
    with patch.dict(os.environ, changes):
        ask(keep=True, other=True)
        place = folder / "latentmeter" / value["entry"]
        (other,) = place.iterdir()
        stranger = other.read_bytes()
        other.unlink()
        ask(keep=True)
        (path,) = place.iterdir()
        path.write_bytes(after(value["accident"], Random(value["seed"]), path.read_bytes(), stranger))
        ask()
        ask(keep=True)
        ask(found=True)


def after(accident: str, random: Random, entry: bytes, stranger: bytes) -> bytes:
    """The entry's bytes after it."""
    if accident == "another's":
        return stranger
    if accident == "file":
        return damaged(random, entry, IN_BYTES)
    head, text = entry[:DIGEST_BYTES], zlib.decompress(entry[DIGEST_BYTES:])
    return head + zlib.compress(damaged(random, text, IN_VALUES), 1)


def ask_answer(*, keep: bool = False, found: bool = False, other: bool = False) -> None:
    """Ask for a kept answer: right, or there is none."""
    known = EstimateCache(OTHER if other else WORKLOAD, IMAGE, STACK)
    if keep:
        known.keep(truth(known.workload))
    _judge(known, found)


def ask_recording(*, keep: bool = False, found: bool = False, other: bool = False) -> None:
    """Ask for an answer from a recording at a size that was not asked: right, or there is none."""
    dtype: DtypeName = "bf16" if other else "fp16"
    known = EstimateCache(replace(WORKLOAD, dtype=dtype), IMAGE, STACK)
    if keep:
        known.keep_recordings(recordings(known.workload))
    _judge(EstimateCache(replace(OTHER, dtype=dtype), IMAGE, STACK), found)


def ask_plans(*, keep: bool = False, found: bool = False, other: bool = False) -> None:
    """Ask for a plan: right, whether it was kept or has to be asked of cuDNN, which answers here what is right."""
    right = PLANNED + other
    versions = patch.multiple(
        cudnn_plans, front_end_version=lambda: f"{other:d}", installed_cudnn=lambda: cudnn_plans.SHIPPED_BY
    )
    with versions, patch.object(Planner, "_ask", lambda self, question: right):
        planner = Planner(STACK)
        assert planner.answer(QUESTION) == right
        assert planner.answered["cached"] or not found
        if keep:
            planner.close()


def _judge(known: EstimateCache, found: bool) -> None:
    answer = known.find()
    assert answer is not None or not found, "what was kept anew is not found"
    if answer is not None:
        assert plain(answer) == plain(truth(known.workload)), "a wrong answer"


def plain(found: Estimate) -> str:
    """An answer without what its making cost."""
    notes = {name: note for name, note in found.notes.items() if name != "seconds"}
    return json.dumps(replace(found, seconds=0.0, notes=notes), default=vars, sort_keys=True)


@cache
def truth(workload: Workload) -> Estimate:
    """The answer of a trace."""
    from profiler.estimation.estimator import estimate

    return estimate(workload, IMAGE, STACK)


@cache
def recordings(workload: Workload) -> list[dict[str, Any]]:
    """The recordings of a workload, for any size."""
    from profiler.estimation.recorder import Recorder

    made = Recorder(workload, IMAGE, STACK).recordings()
    assert not isinstance(made, str), made
    return made
