"""Exports hold what the profile holds, in the words of the tools that read them."""

import csv
import io
import json
import pickle
import pickletools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from torch.cuda import _memory_viz

from profiler.diagnosis.export import chrome, snapshot, texts
from profiler.diagnosis.profile import Profile

# What the reader in the viewer's JavaScript knows (torch/utils/viz/MemoryViz.js, unpickle).
OPCODES = """
PROTO APPEND APPENDS LIST TUPLE NEWFALSE NEWTRUE NONE BINGET BININT BININT1 BININT2 EMPTY_DICT EMPTY_LIST FRAME LONG1
LONG_BINGET MARK MEMOIZE BINPUT LONG_BINPUT SETITEMS SETITEM DICT SHORT_BINUNICODE BINUNICODE STOP EMPTY_TUPLE TUPLE1
TUPLE2 TUPLE3 BINFLOAT
"""


@pytest.fixture(scope="module")
def profile(tiny: Callable[..., Profile]) -> Profile:
    return tiny("tiny-video", "decode", 64)


@pytest.fixture(scope="module")
def found(profile: Profile) -> dict[str, Any]:
    return pickle.loads(snapshot.write(profile))


def test_torch_reads_the_snapshot(found: dict[str, Any]) -> None:
    assert "MemoryViz.js" in _memory_viz.segment_plot(found)
    assert "Active Memory Timeline" in _memory_viz.trace_plot(found)
    told = _memory_viz.trace(found)
    assert "cudaMalloc(" in told and "= MEM[" not in told  # every block lies in a segment that it knows
    assert "segments" in _memory_viz.segsum(found).lower()
    assert "decoder.up_blocks.3" in _memory_viz.memory(found, format_flamegraph=lambda lines: lines)


def test_the_viewer_can_read_the_pickle(profile: Profile) -> None:
    assert {opcode.name for opcode, _, _ in pickletools.genops(snapshot.write(profile))} <= set(OPCODES.split())


def test_the_snapshots_events_replay_to_its_peaks(profile: Profile, found: dict[str, Any]) -> None:
    allocated = reserved = highest = 0
    live: dict[int, int] = {}
    (trace,) = found["device_traces"]
    for event in trace:
        if event["action"] == "segment_alloc":
            reserved += event["size"]
        elif event["action"] == "alloc":
            assert event["addr"] not in live
            live[event["addr"]] = event["size"]
            allocated += event["size"]
        elif event["action"] == "free_completed":
            allocated -= live.pop(event["addr"])
        highest = max(highest, allocated)
    assert (highest, reserved) == (profile.peak, profile.reserved)
    blocks = [block for segment in found["segments"] for block in segment["blocks"]]
    assert {b["address"]: b["size"] for b in blocks if b["state"] == "active_allocated"} == live
    for segment in found["segments"]:
        assert sum(block["size"] for block in segment["blocks"]) == segment["total_size"]


def test_segments_that_touch_stay_apart(found: dict[str, Any]) -> None:
    asked = [(e["addr"], e["size"]) for e in found["device_traces"][0] if e["action"] == "segment_alloc"]
    assert {start + size for start, size in asked} & {start for start, _ in asked}  # as the driver has them
    assert [(segment["address"], segment["total_size"]) for segment in found["segments"]] == sorted(asked)


def test_expandable_segments_are_mapped_in_one_piece(profile: Profile) -> None:
    expandable = replace(profile.stack, settings={"PYTORCH_ALLOC_CONF": "expandable_segments:True"})
    found = snapshot.snapshot(replace(profile, stack=expandable))
    small, large = found["segments"]
    assert {event["action"] for event in found["device_traces"][0]} >= {"segment_map"}
    for segment in (small, large):
        assert sum(block["size"] for block in segment["blocks"]) == segment["total_size"]


def test_frames_go_from_the_op_outwards(profile: Profile) -> None:
    block = profile.blocks[profile.events[profile.peak_event]]
    names = [frame["filename"] for frame in snapshot.frames(profile, block)]
    module = profile.module(block)
    assert names[0] == names[1] == module and names[-2:] == ["decoder", "the stage"]


def test_chromes_schema(profile: Profile) -> None:
    data = json.loads(chrome.write(profile))
    slices, counters = ([e for e in data["traceEvents"] if e["ph"] == kind] for kind in "XC")
    assert all(isinstance(e["ts"], int) and {"name", "pid", "args"} <= e.keys() for e in data["traceEvents"])
    assert all(e["dur"] > 0 and "tid" in e for e in slices)
    assert max(sum(e["args"].values()) for e in counters) == profile.peak
    ends: list[int] = []
    for event in slices:  # calls of one thread nest
        while ends and ends[-1] <= event["ts"]:
            ends.pop()
        assert not ends or event["ts"] + event["dur"] <= ends[-1]
        ends.append(event["ts"] + event["dur"])


def test_stacks_add_up_to_the_peak(profile: Profile) -> None:
    lines = texts.write_stacks(profile).decode().splitlines()
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == profile.peak
    assert any(
        line.startswith("decode;decoder;up_blocks;3;resnets;1;conv2;aten.convolution.default ") for line in lines
    )


def test_csv_has_every_event(profile: Profile) -> None:
    rows = list(csv.DictReader(io.StringIO(texts.write_csv(profile).decode())))
    assert len(rows) == len(profile.events)
    assert max(int(row["allocated"]) for row in rows) == profile.peak
