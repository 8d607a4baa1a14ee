"""The measured event stream: torch's history laid beside a watched call, and its file. The history here is made up."""

from io import BytesIO
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from profiler.allocator.caching import CachingAllocator
from profiler.allocator.replay import Replay
from profiler.data.align import align
from profiler.files.streams import packed, read_stream
from profiler.measurement import cuda_events
from profiler.measurement.meter import OpPeak
from profiler.measurement.process import measure_in_process
from profiler.models.find import find_model
from profiler.trace.observer import Observer

MIB = 1 << 20
TINY = Path(__file__).parent.parent / "models" / "tiny-video.yaml"


def entry(action: str, address: int, size: int) -> dict[str, object]:
    return {"action": action, "addr": address, "size": size}


def birth(address: int, size: int) -> dict[str, object]:
    return entry("alloc", address, size)


def death(address: int, size: int) -> dict[str, object]:
    return entry("free_requested", address, size)


def watched() -> Observer:
    """Two ops: one makes an output of 3 MiB, the other one of 1 MiB and borrows 5 MiB beside it."""
    watch = Observer("cuda")
    watch.phase, watch.term = "cold", "activations"
    watch.ops = [("proj", "aten.mm"), ("conv", "aten.convolution")]
    for op, size in enumerate((3 * MIB, MIB)):
        watch.allocate(size, (size,), "uint8", "activations")
        watch.blocks[-1].op = op
    return watch


WEIGHT, INPUT = birth(1, 9 * MIB), birth(2, 2 * MIB)
COLD = [birth(3, 3 * MIB), birth(9, 32 * MIB), birth(4, MIB), birth(5, 5 * MIB), death(5, 5 * MIB), death(3, 3 * MIB)]
LATER = [death(4, MIB), birth(6, 3 * MIB), birth(8, MIB), birth(7, 5 * MIB), death(7, 5 * MIB), death(6, 3 * MIB)]
PEAKS = [
    OpPeak(op=0, event=1, peak=0, end=0, position=10),
    OpPeak(op=1, event=2, peak=0, end=0, position=13),
]


def test_the_cold_call_is_kept_as_it_ran_and_attributed_by_the_watched_one() -> None:
    trace = [WEIGHT, INPUT, *COLD, *LATER]
    found = cuda_events.stream(
        (trace, {1, 9}), {"model": 0, "inputs": 1, "cold": 2, "attribution": 8}, watched(), PEAKS
    )
    assert [(b.bytes // MIB, b.phase, b.term, b.op) for b in found.blocks] == [
        (9, "model", "weights", -1),
        (2, "inputs", "inputs", -1),
        (3, "cold", "activations", 0),
        (32, "cold", "workspace", 0),  # only the first call took it: it belongs to the op around it
        (1, "cold", "activations", 1),
        (5, "cold", "workspace", 1),
    ]
    assert found.events == [0, 1, 2, 3, 4, 5, ~5, ~2]
    assert found.cache_emptied_at == {1}  # the other time was in a later call
    assert Replay(found, CachingAllocator()).peak_at().op == "aten.convolution"


def test_a_stream_is_the_same_after_its_file(tmp_path: Path) -> None:
    trace = [WEIGHT, INPUT, *COLD, *LATER]
    found = cuda_events.stream(
        (trace, {1, 9}), {"model": 0, "inputs": 1, "cold": 2, "attribution": 8}, watched(), PEAKS
    )
    path = tmp_path / "events.json.gz"
    path.write_bytes(packed(found))
    assert read_stream(path) == found


def test_the_position_counts_births_and_deaths() -> None:
    assert cuda_events.position({"allocation.all.allocated": 7, "allocation.all.freed": 4}) == 11


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What torch's memory history holds on device 1, which is the current one; empty until a test fills it."""
    kept: list[dict[str, object]] = []
    other = [birth(99, MIB)]
    monkeypatch.setattr(torch.cuda.memory, "_snapshot", lambda: {"device_traces": [other, list(kept)]})
    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", lambda **_: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    return kept


@pytest.mark.parametrize("given_back", ["segment_free", "segment_unmap"])  # plain segments, and expandable ones
def test_the_history_gives_births_deaths_and_when_memory_was_given_back(
    history: list[dict[str, object]], given_back: str
) -> None:
    history += [
        entry("segment_alloc", 1, 20 * MIB),
        birth(1, 9 * MIB),
        death(1, 9 * MIB),
        entry("free_completed", 1, 9),
    ]
    history += [entry(given_back, 1, 20 * MIB), entry("segment_map", 2, 2 * MIB), birth(2, 2 * MIB)]
    assert cuda_events.end() == ([birth(1, 9 * MIB), death(1, 9 * MIB), birth(2, 2 * MIB)], {2})


def test_a_history_of_which_torch_forgot_some_is_none(
    history: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    history += [birth(1, MIB), death(1, MIB)]
    monkeypatch.setattr(cuda_events, "MOST_EVENTS", 2)
    assert cuda_events.end() == ([], set())


def test_a_cpu_worker_gives_its_stream() -> None:
    spec = find_model(str(TINY))
    outcome = measure_in_process(spec.workload("decode", dtype="fp32"), spec, "cpu", warm_calls=0, events=True)
    assert outcome.measurement is not None and outcome.events is not None
    found = read_stream(BytesIO(outcome.events))
    assert {block.phase for block in found.blocks} == {"model", "inputs", "cold"}
    weights = sum(block.bytes for block in found.blocks if block.term == "weights")
    assert weights == outcome.measurement.terms.weights


SIZES = st.lists(st.integers(0, 3), max_size=12)


@given(SIZES, SIZES)
def test_alignment_finds_the_longest_common_subsequence(a: list[int], b: list[int]) -> None:
    pairs = align(a, b)
    assert all(a[i] == b[j] for i, j in pairs)
    assert pairs == sorted(pairs)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs) == longest(a, b)


def longest(a: list[int], b: list[int]) -> int:
    """By the textbook's table, row by row."""
    row = [0] * (len(b) + 1)
    for x in a:
        new = [0]
        for j, y in enumerate(b):
            new.append(row[j] + 1 if x == y else max(row[j + 1], new[j]))
        row = new
    return row[-1]
