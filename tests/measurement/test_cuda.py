"""The CUDA meter's own logic, over a fake `torch.cuda` and a fake NVML: what no test machine has."""

from typing import Any

import pytest
import torch

from profiler.machine.live import device_uuid, live_stack
from profiler.measurement.cuda import CudaMeter
from profiler.measurement.worker import parse_requested
from tests.measurement.fake_cuda import UUID, FakeCuda, install

MIB = 1 << 20


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return install(monkeypatch)


def test_the_context_exists_before_counters_are_reset(device: FakeCuda) -> None:
    with CudaMeter() as meter, meter.phase("model"):
        pass
    assert device.calls[0] == "init"


def test_peaks_ends_and_device_bytes_of_each_phase(device: FakeCuda) -> None:
    with CudaMeter() as meter:
        with meter.phase("model"):
            device.malloc(20 * MIB)
        with meter.phase("cold"):
            device.malloc(10 * MIB)
            device.free(10 * MIB)
            device.retries += 1
    model, cold = meter.readings()
    assert (model.peak.allocated_bytes, model.end.allocated_bytes) == (20 * MIB, 20 * MIB)
    assert (cold.peak.allocated_bytes, cold.end.allocated_bytes) == (30 * MIB, 20 * MIB)
    assert (cold.peak.reserved_bytes, cold.alloc_retries, cold.ooms) == (30 * MIB, 1, 0)
    # The context and the segments, without what another process held before.
    assert cold.peak.device_bytes == 530 * MIB
    assert cold.seconds == 1.5
    assert cold.device_free_bytes == 7 * MIB
    assert meter.stack.driver == "580.1"
    assert meter.describe() == {"samples": 3}
    assert meter.reasons() == {}


def test_a_phase_that_fails_keeps_its_reading_without_a_time(device: FakeCuda) -> None:
    with CudaMeter() as meter, pytest.raises(RuntimeError), meter.phase("cold"):
        device.malloc(MIB)
        raise RuntimeError
    (reading,) = meter.readings()
    assert (reading.peak.allocated_bytes, reading.seconds) == (MIB, None)


def test_without_nvml_device_bytes_are_null_with_a_reason(device: FakeCuda) -> None:
    device.nvml = False
    with CudaMeter() as meter, meter.phase("cold"):
        device.malloc(MIB)
    assert meter.readings()[0].peak.device_bytes is None
    assert meter.reasons() == {"device_bytes": "NVML: no driver"}


def test_a_dry_run_says_so_and_has_no_time(device: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTMETER_DRY", "1")
    with CudaMeter() as meter, meter.phase("cold"):
        pass
    assert meter.kind == "dry"
    assert meter.readings()[0].seconds is None
    assert "kernels were not executed" in meter.reasons()["seconds"]
    assert meter.stack.settings["LATENTMETER_DRY"] == "1"


def test_the_watch_reads_the_allocator_around_each_op(device: FakeCuda) -> None:
    meter = CudaMeter()
    watch = meter.watch()
    watch.device_type = "cpu"

    def borrow(*args: Any, **kwargs: Any) -> torch.Tensor:
        device.malloc(5 * MIB)
        device.free(5 * MIB)
        device.malloc(MIB)
        return torch.empty(MIB // 4)

    watch.execute(borrow, (), {})
    (seen,) = meter.op_peaks()
    assert (seen.peak, seen.end, seen.borrowed, seen.event) == (5 * MIB, MIB, 4 * MIB, 1)


def test_the_live_stack_reads_the_card(device: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "max_split_size_mb:64")
    stack = live_stack("cuda")
    assert (stack.gpu, stack.capability, stack.multiprocessors) == ("Fake", (9, 0), 132)
    assert stack.settings["PYTORCH_ALLOC_CONF"] == "max_split_size_mb:64"
    assert stack.settings["cudnn.benchmark"] == "false"
    assert device_uuid() == f"GPU-{UUID}"


@pytest.mark.parametrize(
    ("message", "size"),
    [
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4503599627370496 bytes.", 1 << 52),
        ("something else", None),
    ],
)
def test_the_size_that_failed_is_read_from_the_message(message: str, size: int | None) -> None:
    assert parse_requested(message) == size
