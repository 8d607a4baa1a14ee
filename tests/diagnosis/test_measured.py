"""A measured stream has no reads and no calls: the trace of the same call lends them, and the rest is the stream's own."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from profiler.data.events import Stream
from profiler.diagnosis.collect import translated
from profiler.diagnosis.profile import Profile

MODEL = "tests/models/tiny-video.yaml"


def test_a_run_that_kept_its_events(latentmeter: Any, sweep_file: Callable[..., Path], tmp_path: Path) -> None:
    sweep = sweep_file({"model": MODEL, "stages": ["decode"]})
    assert latentmeter("run", sweep, "--out", tmp_path / "run").code == 0
    asked = ("hotspots", MODEL, "--no-remedies", "--json")
    data = json.loads(latentmeter(*asked, "--measured", tmp_path / "run").out)
    assert data["source"] == "measured" and data["stack"]["device"] == "cpu"
    traced = json.loads(latentmeter(*asked, "--gpu", "h200").out)
    rules = {finding["rule"] for finding in data["findings"]}
    assert {"caches", "held", "residual"} <= rules <= {finding["rule"] for finding in traced["findings"]} | {"weights"}
    other = latentmeter(*asked, "--measured", tmp_path / "run", "--stage", "encode")
    assert other.code == 2 and f"{MODEL}/decode/5x32x32" in other.err


def test_reads_and_owners_follow_an_op_that_only_the_measurement_has(tiny: Callable[..., Profile]) -> None:
    traced = tiny("tiny-video", "decode", 64)
    extra = 7 + min(block.op for block in traced.blocks if block.phase == "cold")
    blocks = [replace(b, op=b.op + (b.op >= extra)) for b in traced.blocks]
    ops = [*traced.ops[:extra], ("somewhere", "aten.new.default"), *traced.ops[extra:]]
    usage = translated(traced, Stream(blocks, traced.events, ops))
    number = traced.events[traced.peak_event]
    assert usage.owners == traced.usage.owners
    for block in traced.blocks:
        if block.phase == "cold":
            expected = [op + (op >= extra) for op in traced.usage.reads.get(block.number, [])]
            assert usage.reads[block.number] == expected
    assert usage.kernels[blocks[number].op].name == traced.usage.kernels[traced.peak_op].name
    first, same = usage.calls[-1], traced.usage.calls[-1]
    assert (first.path, first.first, first.end) == (same.path, same.first + 1, same.end + 1)


def test_what_excludes_each_other(latentmeter: Any) -> None:
    answer = latentmeter("hotspots", MODEL, "--device", "cpu", "--gpu", "h200")
    assert answer.code == 2 and "exclude each other" in answer.err
