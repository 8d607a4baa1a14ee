"""The allocator's model against torch's own allocator, from streams that were recorded in dry CUDA.

`streams/` holds random streams with torch's counters (scripts/dry/fuzz_allocator.py), the reference results whole runs of
models (scripts/dry/record_events.py). Nothing here needs torch's CUDA build.
"""

import gzip
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiler.allocator.caching import CachingAllocator, OutOfMemory
from profiler.allocator.expandable import ExpandableAllocator
from profiler.allocator.settings import parse_settings
from profiler.data.stack import DRY, Stack
from profiler.data.workload import Workload
from profiler.estimation.estimator import estimate
from profiler.files.load import from_dict
from profiler.models.find import find_model

HERE = Path(__file__).parent
RANDOM = sorted((HERE / "streams").glob("*.json.gz"))
REFERENCE = sorted((HERE.parent.parent / "results" / "reference").glob("dry-*/events/*.json.gz"))


def read(path: Path) -> dict[str, Any]:
    with gzip.open(path) as stream:
        data: dict[str, Any] = json.load(stream)
    return data


@pytest.mark.parametrize("path", RANDOM, ids=lambda path: path.name.split(".")[0])
def test_a_random_stream_gives_torchs_counters_all_along(path: Path) -> None:
    data = read(path)
    settings = parse_settings(data["settings"])
    if data["limit"] is not None:  # some streams were recorded under torch.cuda.set_per_process_memory_fraction
        settings = replace(settings, fraction=data["limit"] / data["total"])
    common = {"capacity": min(data["capacity"], settings.allowed(data["total"])), "settings": settings}
    above = settings.garbage_above(data["total"])
    model = (
        ExpandableAllocator(data["total"], **common, falling=False)
        if settings.expandable
        else CachingAllocator(**common, garbage_above=above, falling=False)
    )
    checks = {number: dict(zip(data["counters"], values, strict=True)) for number, *values in data["checks"]}
    assert len(checks) == len(data["stream"]) // 100
    live = []
    for number, (kind, value) in enumerate(data["stream"], start=1):
        if kind == 0:
            with suppress(OutOfMemory):  # where it failed here it failed in torch, as the counters tell
                live.append(model.malloc(value))
        elif kind == 1:
            model.free(live.pop(value))
        else:
            model.empty_cache()
        if number in checks:
            real = checks[number]
            assert real.pop("active") == real["allocated"]
            assert {name: getattr(model, name) for name in real} == real


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.name.removesuffix(".json.gz"))
def test_a_models_stream_gives_torchs_peaks(path: Path) -> None:
    data = read(path)
    model = CachingAllocator(falling=False)
    blocks, requested = [], [0]
    for event in data["stream"]:
        if event < 0:
            model.free(blocks[-event - 1])
        else:
            blocks.append(model.malloc(event))
            requested.append(model.requested)
    peaks = {"allocated": model.peak_allocated, "reserved": model.peak_reserved, "requested": max(requested)}
    assert peaks == data["peaks"]


def test_there_are_streams() -> None:
    assert RANDOM


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.name.removesuffix(".json.gz"))
def test_the_estimate_meets_the_dry_run(path: Path) -> None:
    """Allocated within 0.15 % wherever cuDNN's front-end is missing; to the byte where all plans are shipped."""
    data = read(path)
    workload: Workload = from_dict(Workload, data["workload"])
    stack: Stack = from_dict(Stack, data["stack"])
    stack = replace(stack, settings=stack.settings | {DRY: "1"})
    found = estimate(workload, find_model(workload.model), stack)
    truth = data["peaks"]["allocated"]
    assert found.peak.allocated_bytes is not None
    if "convolution cudnn, closed form" not in found.routes:
        assert (found.peak.allocated_bytes, found.peak.reserved_bytes) == (truth, data["peaks"]["reserved"])
    assert abs(found.peak.allocated_bytes - truth) <= 0.0015 * truth
