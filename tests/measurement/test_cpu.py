"""Measuring on the CPU: real tensors, the allocator's own reports, and an estimate that meets them to the byte."""

import gc
import json
from io import StringIO
from mmap import mmap
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

import profiler
from profiler.comparison.case import compare
from profiler.data.records import Measurement, Record
from profiler.data.workload import STAGES, DtypeName, MemoryOptions, StageName, Workload
from profiler.estimation.estimator import estimate
from profiler.files.load import from_dict
from profiler.measurement.cpu import CpuMeter
from profiler.measurement.worker import Worker
from profiler.models.find import find_model
from profiler.models.spec import ModelSpec

TINY = Path(__file__).parent.parent / "models"
MIB = 1 << 20


def test_phases_see_what_is_allocated_kept_and_freed() -> None:
    with CpuMeter() as meter:
        with meter.phase("model"):
            kept = torch.ones(MIB // 4)
        with meter.phase("cold"):
            more = kept + kept
            del more
        with meter.phase("warm"):
            pass
        del kept  # in the session: the allocator's total runs on through the process
    model, cold, warm = meter.readings()
    assert (model.peak.allocated_bytes, model.end.allocated_bytes) == (MIB, MIB)
    assert (cold.peak.allocated_bytes, cold.end.allocated_bytes) == (2 * MIB, MIB)
    assert (warm.peak.allocated_bytes, warm.end.allocated_bytes) == (MIB, MIB)
    assert cold.peak.reserved_bytes is None
    assert cold.seconds is not None
    assert cold.peak.device_bytes is not None
    assert cold.peak.device_bytes > 50 * MIB


def test_a_phase_that_fails_has_a_reading() -> None:
    with CpuMeter() as meter, pytest.raises(ValueError, match="stop"), meter.phase("cold"):
        torch.ones(MIB // 4)
        raise ValueError("stop")
    (reading,) = meter.readings()
    assert reading.peak.allocated_bytes == MIB
    assert reading.seconds is None


def test_resident_memory_starts_anew_with_each_phase() -> None:
    with CpuMeter() as meter:
        with meter.phase("cold"), mmap(-1, 256 * MIB) as pages:  # not a tensor's: malloc may keep what it frees
            pages.write(b"x" * (256 * MIB))
        with meter.phase("warm"):
            pass
    cold, warm = meter.readings()
    assert cold.peak.device_bytes is not None
    assert warm.peak.device_bytes is not None
    assert cold.peak.device_bytes - warm.peak.device_bytes > 200 * MIB


def test_what_an_op_borrows_is_seen() -> None:
    """A 3D convolution on the CPU unfolds its input: a buffer that no tensor shows."""
    x, weight = torch.randn(1, 16, 5, 16, 16), torch.randn(32, 16, 3, 3, 3)
    with CpuMeter() as meter:
        watch = meter.watch()
        with meter.phase("attribution"), torch.inference_mode(), watch.during("cold", "activations"):
            torch.nn.functional.conv3d(x, weight, padding=1)
    worst = max(meter.op_peaks(), key=lambda p: p.borrowed)
    assert watch.ops[worst.op][1] == "aten.convolution.default"
    assert worst.borrowed >= 16 * 27 * 5 * 16 * 16 * 4


def worked(workload: Workload, spec: ModelSpec) -> Measurement:
    """What the worker measures, in this process: a process of its own takes seconds to import what is here already."""
    gc.collect()  # tensors of other tests must not die in the phases
    stream = StringIO()
    assert Worker(workload, spec, "cpu", 1, stream).run(), stream.getvalue()
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    found: Measurement = from_dict(Measurement, told[-1]["measurement"])
    return found


CASES = [(model, stage) for model in ("tiny-image", "tiny-video") for stage in STAGES]


# The last fails on meta tensors and is traced on fake ones.
@pytest.mark.parametrize(("model", "stage"), [*CASES, ("tiny-temporal", "decode")])
def test_the_estimate_meets_the_measurement_to_the_byte(model: str, stage: StageName) -> None:
    """Every tensor term is the same on both sides; what CPU kernels borrow is measured and closes the rest."""
    spec = find_model(str(TINY / f"{model}.yaml"))
    found = worked(spec.workload(stage), spec)
    estimated = estimate(found.workload, spec, found.stack)
    for term in ("weights", "inputs", "outputs", "activations"):
        assert getattr(found.terms, term) == getattr(estimated.terms, term)
    assert found.terms.workspace is not None
    parts = [found.terms.weights, found.terms.inputs, found.terms.outputs, found.terms.activations]
    assert sum(parts) + found.terms.workspace == found.peak.allocated_bytes  # type: ignore[arg-type]
    assert [tensor.bytes for tensor in found.largest] == [tensor.bytes for tensor in estimated.largest]
    record = Record(
        key=found.workload.key, workload=found.workload, status="ok", started="now", seconds=1.0,
        estimate=estimated, measurement=found,
    )  # fmt: skip
    assert compare(record).verdict == "exact"


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_weights_that_are_mapped_from_their_file_are_counted(dtype: DtypeName, tmp_path: Path) -> None:
    """In the dtype of the file they stay where they are mapped; in another one the allocator gives what they are cast to."""
    tiny = find_model(str(TINY / "tiny-image.yaml"))
    assert tiny.vae is not None
    AutoencoderKL(**tiny.vae.config).save_pretrained(tmp_path / "vae")
    (tmp_path / "model_index.json").write_text('{"vae": ["diffusers", "AutoencoderKL"]}', encoding="utf-8")
    spec = find_model(str(tmp_path))
    found = worked(spec.workload("decode", frames=1, height=32, width=32, dtype=dtype), spec)
    estimated = estimate(found.workload, spec, found.stack)
    assert found.terms.weights == estimated.terms.weights
    assert found.baseline.allocated_bytes == estimated.baseline.allocated_bytes
    assert found.terms.workspace is not None
    assert found.peak.allocated_bytes == estimated.peak.allocated_bytes + found.terms.workspace  # type: ignore[operator]
    weights = f"{estimated.terms.weights:,} B of them are mapped from their file"
    assert found.notes.get("terms.weights") == (weights if dtype == "fp32" else None)


def test_a_measurement_says_what_it_is() -> None:
    path = str(TINY / "tiny-image.yaml")
    options = MemoryOptions(slicing=True, channels_last=True)
    found = profiler.measure(path, "decode", device="cpu", warm_calls=2, batch=2, options=options).measurement
    assert found is not None
    assert found.device_kind == "cpu"
    assert found.stack.device == "cpu"
    assert [reading.phase for reading in found.readings] == ["model", "inputs", "cold", "warm", "warm", "attribution"]
    assert len(found.warm) == 2
    assert found.output_shapes == ((2, 3, 32, 32),)
    assert found.options["slicing"].applied
    assert found.options["channels_last"].applied
    assert found.notes["peak.reserved_bytes"]
    assert found.peak_at is not None
    assert found.baseline.allocated_bytes == found.readings[1].end.allocated_bytes
