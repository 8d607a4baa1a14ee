"""NVML that is lost half-way through a measurement: the real pynvml, on the stub library, beside a fake CUDA."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SCRIPT = """
import json, os
import pytest
from profiler.machine import nvml
from profiler.measurement import cuda
from tests.measurement import fake_cuda, test_worker

real = {name: getattr(cuda, name) for name in ("Sampler", "used_bytes", "devices", "find", "snapshot")}
asked, query = 0, nvml.query

def counted(function, *arguments):
    global asked
    answer = query(function, *arguments)
    asked += function == "nvmlDeviceGetMemoryInfo" and answer.value is not None
    return answer

found = []
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(nvml, "query", counted)
    device = fake_cuda.install(patch)
    for name, function in real.items():
        patch.setattr(cuda, name, function)
    for scenario in %r:
        words = [w if not w.endswith("_after_") else f"{w}{asked + later}" for w, later in scenario]
        os.environ["LATENTMETER_STUB_NVML"] = ",".join(words)
        run = test_worker.work(device, test_worker.ENCODE)
        measured = run.measurement
        found.append({
            "well": run.ended_well, "notes": measured.notes, "context": measured.terms.context,
            "device": [reading.peak.device_bytes for reading in measured.readings],
            "allocated": measured.peak.allocated_bytes, "reasons": measured.nvml["reasons"],
        })
print(json.dumps(found))
"""
LATER = (0, 3)  # memory questions that are still answered


def test_a_measurement_whose_nvml_is_lost_at_any_moment_keeps_what_torch_counts(
    nvml_stub: Callable[[str], dict[str, str]],
) -> None:
    scenarios = [[("ok", 0)], *([("gpu_lost_after_", later)] for later in LATER)]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT % scenarios],
        env=nvml_stub("ok") | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    whole, *lost = json.loads(done.stdout)
    assert whole["notes"] == {}
    assert None not in whole["device"]
    for found in lost:
        assert found["well"]
        assert found["allocated"] == whole["allocated"] > 0
        reasons = " ".join([*found["notes"].values(), *found["reasons"].values()])
        assert "the GPU is lost" in reasons
        assert None in found["device"], "a reading after the loss is unknown, never 0"
        assert (found["context"] is None) == ("terms.context" in found["notes"])
