"""The worker on CUDA, through its events: every phase of a tiny model, over a device that is not there."""

import io
import json
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from profiler.data.events import Stream
from profiler.data.records import Measurement
from profiler.data.stack import Stack
from profiler.data.workload import History, Workload
from profiler.estimation.estimator import estimate
from profiler.files.load import from_dict
from profiler.files.streams import read_stream
from profiler.measurement.worker import Worker
from profiler.models.find import find_model
from profiler.stages.stage import Stage
from tests.measurement import fake_cuda
from tests.measurement.fake_cuda import BLOCK, CONTEXT, MIB, FakeCuda, install

IMAGE = find_model(str(Path(__file__).parent.parent / "models" / "tiny-image.yaml"))
ENCODE = IMAGE.workload("encode", height=64, width=64)
INPUT = 3 * 64 * 64 * 4
WEIGHTS = 217_088  # in blocks of 512 bytes
EARLIER = History(sizes=((1, 128, 128), (1, 32, 32)), empty_cache=True)


@dataclass
class Run:
    """What a worker told, in order, on which device, and the events that it wrote, if it was asked for them."""

    device: FakeCuda
    ended_well: bool
    told: list[dict[str, Any]]
    stream: Stream | None

    def all(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.told if line["event"] == event]

    @property
    def failure(self) -> dict[str, Any]:
        (line,) = self.all("failure")
        return line

    @property
    def measurement(self) -> Measurement:
        (line,) = self.all("result")
        found: Measurement = from_dict(Measurement, line["measurement"])
        return found


def work(device: FakeCuda, workload: Workload, warm_calls: int = 0, events: bool = False) -> Run:
    stream = io.StringIO()
    with device.tensors():
        ended_well = Worker(workload, IMAGE, "cuda", warm_calls, stream, events).run()
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    kept = [read_stream(io.BytesIO(b64decode(line["packed"]))) for line in told if line["event"] == "events"]
    return Run(device, ended_well, told, *kept or [None])


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return install(monkeypatch)


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """A whole measurement, after two other sizes and an emptied cache, with two warm calls and its events."""
    with pytest.MonkeyPatch.context() as patch:
        yield work(install(patch), replace(ENCODE, history=EARLIER), 2, events=True)


PHASES = ["model", "earlier", "earlier", "inputs", "cold", "warm", "warm", "attribution"]


def test_every_phase_is_told_in_order_and_read(run: Run) -> None:
    assert run.ended_well
    assert run.told[0]["event"] == "stack"
    assert run.told[0]["stack"]["gpu"] == "Fake"
    assert [line["phase"] for line in run.all("phase")] == PHASES
    assert [line["reading"]["phase"] for line in run.all("reading")] == PHASES
    order = [line["event"] for line in run.told]
    assert order == ["stack", *["phase", "reading"] * len(PHASES), "result", "events"]
    assert [reading.phase for reading in run.measurement.readings] == PHASES
    assert [line["reading"]["peak"] for line in run.all("reading")] == [
        vars(reading.peak) for reading in run.measurement.readings
    ]
    assert len(run.measurement.warm) == 2


def test_each_term_is_its_own_bytes(run: Run) -> None:
    """Weights and inputs by their shapes, activations by the estimate, and what stands above them by the device's books."""
    found = run.measurement
    terms, peak = found.terms, found.peak
    module = Stage(ENCODE, IMAGE).module
    sizes = [tensor.nbytes for tensor in (*module.parameters(), *module.buffers())]
    assert terms.weights == sum(-(-size // BLOCK) * BLOCK for size in sizes)
    assert terms.inputs == INPUT
    assert terms.activations == estimate(ENCODE, IMAGE, Stack(device="cpu", torch="2.13.0")).terms.activations
    parts = [terms.weights, terms.inputs, terms.outputs, terms.activations, terms.workspace]
    assert sum(part or 0 for part in parts) == peak.allocated_bytes
    assert terms.workspace == 0  # no kernel runs, so none borrows
    assert terms.context == CONTEXT
    assert peak.reserved_bytes == 2 * MIB
    assert terms.cached == 2 * MIB - (peak.allocated_bytes or 0) > 0
    assert peak.device_bytes == CONTEXT + 2 * MIB


def test_the_peak_is_that_of_the_cold_call_above_weights_and_inputs(run: Run) -> None:
    found = run.measurement
    by_phase = {reading.phase: reading for reading in found.readings}
    assert found.peak == by_phase["cold"].peak
    assert found.baseline == by_phase["inputs"].end
    assert found.baseline.allocated_bytes == (found.terms.weights or 0) + INPUT
    assert by_phase["earlier"].peak != found.peak
    # The answer of a call is dropped before the next one begins.
    assert [call.peak.allocated_bytes for call in found.warm] == [found.peak.allocated_bytes] * 2
    assert found.attribution_peak_bytes == found.peak.allocated_bytes
    assert found.peak_at is not None
    assert found.peak_at.module.startswith("encoder.")
    assert found.output_shapes == ((1, 4, 32, 32),)
    assert found.notes == {}


def test_the_cache_is_emptied_between_the_earlier_sizes_and_the_inputs(run: Run) -> None:
    """By the counters, which start anew with each phase: model, two earlier sizes, then the cache, then the inputs."""
    calls = run.device.calls
    assert calls[0] == "init"
    assert calls[: calls.index("empty_cache")].count("reset") == 3
    assert calls.count("empty_cache") == 1
    large = next(reading for reading in run.measurement.readings if reading.phase == "earlier")
    assert (large.end.reserved_bytes or 0) > (run.measurement.baseline.reserved_bytes or 0)


def test_the_events_are_of_the_cold_call_and_add_up_to_its_peak(run: Run) -> None:
    assert run.stream is not None
    found, blocks = run.measurement, run.stream.blocks
    assert {block.phase for block in blocks} == {"model", "earlier", "inputs", "cold"}
    assert sum(block.bytes for block in blocks if block.term == "weights") == found.terms.weights
    total = highest = 0
    start = next(block.born for block in blocks if block.phase == "cold")
    for at, number in enumerate(run.stream.events):
        total += blocks[number].bytes if number >= 0 else -blocks[~number].bytes
        highest = max(highest, total) if at >= start else 0
    assert highest == found.peak.allocated_bytes
    assert {block.term for block in blocks if block.phase == "cold"} >= {"activations", "outputs"}
    emptied = run.stream.cache_emptied_at
    assert len(emptied) == 1
    assert (
        max(b.born for b in blocks if b.phase == "earlier")
        < min(emptied)
        <= min(b.born for b in blocks if b.phase == "inputs")
    )


def test_resident_terms_are_the_blocks_as_they_were_handed_out(device: FakeCuda) -> None:
    """The allocator leaves tails that are too small to use: they are in its counters, not in the tensors' sizes."""
    device.tail = 3 * BLOCK
    found = work(device, ENCODE).measurement
    assert found.terms.weights == found.readings[0].end.allocated_bytes
    assert (found.terms.weights or 0) > WEIGHTS
    assert found.terms.inputs == INPUT + device.tail
    parts = [found.terms.weights, found.terms.inputs, found.terms.outputs, found.terms.activations]
    assert sum(part or 0 for part in parts) + (found.terms.workspace or 0) == found.peak.allocated_bytes


def test_tensors_are_counted_in_the_allocators_blocks(device: FakeCuda) -> None:
    found = work(device, IMAGE.workload("encode", height=66, width=66)).measurement
    assert (8 * 66 * 66 * 4) % BLOCK
    assert [tensor.bytes % BLOCK for tensor in found.largest] == [0] * len(found.largest)
    assert found.terms.workspace == 0


def test_without_a_history_nothing_comes_before_the_call_and_no_cache_is_emptied(device: FakeCuda) -> None:
    run = work(device, ENCODE)
    assert [line["phase"] for line in run.all("phase")] == ["model", "inputs", "cold", "attribution"]
    assert "empty_cache" not in device.calls
    assert not device.recording
    assert run.stream is None


@pytest.mark.parametrize(
    ("room", "phase", "requested", "completed"),
    [
        (300, "model", 2 * BLOCK, []),  # a first weight of 864 bytes
        (WEIGHTS, "inputs", INPUT, ["model"]),
        (WEIGHTS + INPUT, "cold", 8 * 64 * 64 * 4, ["model", "inputs"]),
    ],
)
def test_out_of_memory_says_where_and_how_much_to_the_byte(
    device: FakeCuda, room: int, phase: str, requested: int, completed: list[str]
) -> None:
    """The message has two digits; the exact size is what torch tells the observer."""
    device.room = room
    run = work(device, ENCODE)
    assert not run.ended_well
    assert (run.failure["status"], run.failure["failure"]["phase"]) == ("oom", phase)
    assert run.failure["failure"]["message"].startswith("CUDA out of memory")
    assert run.failure["failure"]["requested_bytes"] == requested
    assert [line["reading"]["phase"] for line in run.all("reading")][: len(completed)] == completed
    assert not run.all("result")


def test_a_broken_device_is_a_crash_and_not_an_answer(device: FakeCuda) -> None:
    device.fault = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match="CUDA error"):
        work(device, ENCODE)
    device.fault = RuntimeError("Given groups=1, expected weight to be at least 1")
    run = work(device, ENCODE)
    assert (run.failure["status"], run.failure["failure"]["phase"]) == ("invalid", "model")


@pytest.mark.parametrize("message", ["", " \n", "\nboom\nstack"])
def test_an_error_without_a_first_line_has_a_message_all_the_same(device: FakeCuda, message: str) -> None:
    device.fault = RuntimeError(message)
    assert work(device, ENCODE).failure["failure"]["message"] == ("boom" if "boom" in message else "RuntimeError")


def test_a_figure_that_is_no_number_makes_the_measurement_invalid(
    device: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_cuda.FakeEvent, "elapsed_time", lambda *_: float("nan"))
    run = work(device, ENCODE)
    assert (run.failure["status"], run.all("result")) == ("invalid", [])
