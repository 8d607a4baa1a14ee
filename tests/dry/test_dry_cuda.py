"""The harness in dry CUDA: the CUDA build of torch, its allocator and dispatcher, on stubs. `scripts/test --dry-cuda`.

The first test that runs makes the environment (docs/dry-cuda.md says what that costs).
"""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from profiler.files.load import read_as
from profiler.machine.cards import Gpu, find_gpu
from tests.integration.processes import arguments, group, phase, running, wait_for, workers_of

ROOT = Path(__file__).parents[2]
DECODE = ("latentmeter", "measure", "qwen-image", "--stage", "decode", "--dtype", "fp16", "--json")
LONG = ("latentmeter", "measure", "wan2.1-t2v-1.3b", "--stage", "decode", "--warm-calls", "0", "--json")

pytestmark = pytest.mark.dry


def command(*words: str | Path, gpu: str = "h200", memory_mib: int | None = None) -> list[str]:
    less = [] if memory_mib is None else ["--memory-mib", str(memory_mib)]
    return [str(word) for word in (ROOT / "scripts" / "dry_cuda", "--gpu", gpu, *less, *words)]


def dry(*words: str | Path, **card: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end, in dry CUDA."""
    return subprocess.run(command(*words, **card), capture_output=True, text=True, timeout=900)


def answer(code: str, allocator: str = "", **card: Any) -> Any:
    """What `code` leaves in `answer`, in a Python of dry CUDA with `torch` imported."""
    script = f"import json, torch\nGIB = 1 << 30\n{code}\nprint(json.dumps(answer))"
    done = dry("env", f"PYTORCH_ALLOC_CONF={allocator}", "python", "-c", script, **card)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


TAKE = "def take(size): return torch.empty(size, dtype=torch.uint8, device='cuda')\n"
STATS = "stats = torch.cuda.memory_stats()\n"


@pytest.mark.parametrize(
    ("gpu", "name", "capability", "multiprocessors"),
    [("h200", "NVIDIA H200", [9, 0], 132), ("l40s", "NVIDIA L40S", [8, 9], 142)],
)
def test_the_card_is_there(gpu: str, name: str, capability: list[int], multiprocessors: int) -> None:
    code = (
        "p = torch.cuda.get_device_properties(0)\nfrom profiler.machine import nvml\n"
        "answer = [torch.cuda.is_available(), p.name, [p.major, p.minor], p.multi_processor_count, torch.version.cuda,\n"
        "  torch.backends.cudnn.version(), nvml.find(str(p.uuid)).reason]"
    )
    assert answer(code, gpu=gpu) == [True, name, capability, multiprocessors, "13.0", 92000, None]


def test_a_convolution_borrows_what_cudnn_plans_for_the_card() -> None:
    code = """
x = torch.empty(1, 128, 1024, 1024, device="cuda", dtype=torch.bfloat16)
conv = torch.nn.Conv2d(128, 128, 3, padding=1, device="cuda", dtype=torch.bfloat16)
before = torch.cuda.memory_allocated()
torch.cuda.reset_peak_memory_stats()
with torch.no_grad():
    conv(x)
answer = torch.cuda.max_memory_allocated() - before
"""
    output = 2 * 128 * 1024 * 1024
    staged = -(-537165971 // 512) * 512  # the workspace of cuDNN's plan for an H200, in blocks of the allocator
    assert answer(code) == output + staged
    assert round((output + staged) / 2**20, 2) == 768.28
    assert answer(code, gpu="a100") == output + -(-537165840 // 512) * 512


def test_attention_takes_the_cudnn_plan_on_hopper() -> None:
    code = """
q = torch.empty(1, 8, 4096, 64, device="cuda", dtype=torch.bfloat16)
torch.cuda.memory._record_memory_history()
with torch.no_grad():
    torch.nn.functional.scaled_dot_product_attention(q, q, q)
events = torch.cuda.memory._snapshot()["device_traces"][0]
answer = [event["size"] for event in events if event["action"] == "alloc"]
"""
    assert answer(code) == [8, 8, 4194304, 256]


def test_a_memory_fraction_is_an_oom_on_a_small_card() -> None:
    code = f"""{TAKE}
torch.cuda.set_per_process_memory_fraction(0.25)
try:
    take(3 * GIB)
except torch.cuda.OutOfMemoryError as error:
    message = str(error)
{STATS}
answer = [message, stats["num_ooms"], torch.cuda.mem_get_info()]
"""
    message, ooms, (free, total) = answer(code, memory_mib=8192)
    assert "Tried to allocate 3.00 GiB" in message
    assert "2.00 GiB allowed" in message
    assert ooms == 1
    assert (total, total - free) == (8 << 30, 512 << 20)  # the context


@pytest.mark.parametrize("allocator", ["", "expandable_segments:True"])
def test_a_full_card_gives_cached_memory_back_and_tries_again(allocator: str) -> None:
    code = f"""{TAKE}
blocks = [take(GIB) for _ in range(3)]
del blocks[:2]
kept = take(int(2.4 * GIB))
{STATS}
free, total = torch.cuda.mem_get_info()
answer = [stats["num_alloc_retries"], stats["num_ooms"], torch.cuda.memory_reserved(), total - free]
"""
    retries, ooms, reserved, used = answer(code, allocator, memory_mib=4096)
    assert ooms == 0
    if not allocator:  # expandable segments reuse the free pages and have nothing to give back
        assert retries == 1
    assert used == reserved + (512 << 20)


def test_an_event_gives_no_time_and_a_large_copy_to_the_host_zeros() -> None:
    code = """
a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2))
a.record()
x = torch.rand(1 << 20, device="cuda") + 1
b.record()
torch.cuda.synchronize()
answer = [a.elapsed_time(b), x.tolist() == [0.0] * (1 << 20), torch.empty(3).pin_memory().is_pinned()]
"""
    assert answer(code) == [0.0, True, True]


def test_what_is_not_modelled_fails_and_is_named() -> None:
    done = dry("python", "-c", "import torch; torch.fft.fft(torch.ones(64, device='cuda'))")
    assert done.returncode == 1
    assert "dry CUDA: cufftCreate is not modelled" in done.stderr
    assert "cuFFT error" in done.stderr


def test_a_measurement_is_dry_and_twice_the_same() -> None:
    first, second = (json.loads(dry(*DECODE).stdout)["measurement"] for _ in range(2))
    assert first["device_kind"] == second["device_kind"] == "dry"
    for name in ("peak", "baseline", "terms"):
        assert first[name] == second[name]
    assert first["peak"]["allocated_bytes"] > 4 << 30
    # The device holds this process only: what the allocator reserved, and the context.
    assert first["peak"]["device_bytes"] == first["peak"]["reserved_bytes"] + (512 << 20)
    assert first["terms"]["context"] == 512 << 20
    assert {reading["seconds"] for reading in first["readings"]} == {None}
    assert first["readings"][-1]["process_bytes"] == first["readings"][-1]["end"]["device_bytes"]


def test_a_card_too_small_is_an_oom() -> None:
    done = dry(*DECODE, memory_mib=3072)
    record = json.loads(done.stdout)
    assert (done.returncode, record["status"], record["measurement"]) == (1, "oom", None)
    assert record["failure"]["requested_bytes"] > 0


def test_a_hang_below_torch_is_a_timeout_and_leaves_no_process(tmp_path: Path) -> None:
    helper = tmp_path / "cudnn_server"
    helper.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec sleep 600\n")  # never answers
    helper.chmod(0o755)
    done = dry("env", f"LATENTMETER_DRY_STUBS={tmp_path}", *DECODE, "--timeout", "20")
    record = json.loads(done.stdout)
    assert (done.returncode, record["status"]) == (1, "timeout")
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not running(pid), 5)


def test_a_killed_worker_is_a_crash_and_its_helper_ends() -> None:
    with subprocess.Popen(command(*LONG), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        (worker,) = wait_for(lambda: workers_of(process.pid), 120)
        wait_for(lambda: phase(worker) == "cold", 120)
        helpers = [pid for pid in group(worker) if arguments(pid)[:1] and "cudnn_server" in arguments(pid)[0]]
        os.kill(worker, signal.SIGKILL)
        out, _ = process.communicate(timeout=120)
    record = json.loads(out)
    assert (process.returncode, record["status"]) == (1, "crash")
    assert record["failure"]["signal"] == "SIGKILL"
    assert len(helpers) == 1
    wait_for(lambda: not running(helpers[0]), 5)


def test_the_command_keeps_its_exit_code_its_output_and_its_folder(tmp_path: Path) -> None:
    done = subprocess.run(command("sh", "-c", "pwd; exit 7"), cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (7, f"{tmp_path}\n")
    missing = dry("no-such-command")
    assert (missing.returncode, missing.stderr) == (
        127,
        "scripts/dry_cuda: no-such-command: No such file or directory\n",
    )


RECORDED = """
from dataclasses import asdict
from io import BytesIO
from profiler.allocator.caching import CachingAllocator
from profiler.allocator.replay import Replay
from profiler.files.streams import read_stream
from profiler.measurement.process import measure_in_process
from profiler.models.find import find_model
spec = find_model("flux.1-dev")
work = spec.workload("patch-embed")
outcomes = [measure_in_process(work, spec, "cuda", warm_calls=1, events=events) for events in (True, False)]
phases = [[(r.phase, asdict(r.peak), asdict(r.end)) for r in outcome.measurement.readings] for outcome in outcomes]
replay = Replay(read_stream(BytesIO(outcomes[0].events)), CachingAllocator())
last = replay.trace.blocks[-1]
answer = [phases[0] == phases[1], outcomes[1].measurement.peak.allocated_bytes == replay.allocator.peak_allocated,
          last.bytes, replay.trace.ops[last.op][1]]
"""


def test_recording_the_events_moves_no_counter_and_gives_every_byte() -> None:
    """The last block of the cold call is what only a first call takes: cuBLAS's workspace."""
    assert answer(RECORDED) == [True, True, 32 << 20, "aten.addmm.default"]


def test_a_card_is_written_as_its_own_file(tmp_path: Path) -> None:
    """What doctor reads off the card is the record that it was given, attribute by attribute."""
    file = tmp_path / "card.yaml"
    done = dry("latentmeter", "doctor", "--dump-card", file, gpu="l40s")
    assert done.returncode == 0, done.stderr
    written, given = read_as(Gpu, file, "a card file"), find_gpu("l40s")
    assert written.properties == given.properties
    assert (written.id, written.capability, written.total_bytes) == ("l40s", given.capability, given.total_bytes)
    assert written.context_bytes is None
    assert dry("latentmeter", "doctor", "--dump-card", file).returncode == 2  # never written over


SWEEP = """name: allocconf
title: a setting that torch accepts
device: cuda
warm_calls: 0
cases:
  - {model: sd1.5, stages: [decode], dtype: [fp16], height: 256, width: 256}
"""


@pytest.mark.parametrize(
    "settings",
    [
        {
            "PYTORCH_CUDA_ALLOC_CONF": "release_lock_on_cudamalloc:True,roundup_power2_divisions:[256:1,512:2,1024:4,>:8]"
        },
        {"PYTORCH_ALLOC_CONF": "garbage_collection_threshold:0.1,per_process_memory_fraction:0.02"},
        {
            "CUBLAS_WORKSPACE_CONFIG": ":16:8",
            "TORCH_CUBLASLT_UNIFIED_WORKSPACE": "0",
            "CUBLASLT_WORKSPACE_SIZE": "4096",
        },
    ],
    ids=lambda settings: "-".join(settings),
)
def test_the_environment_changes_both_sides_alike(settings: dict[str, str], tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(SWEEP)
    values = [f"{name}={value}" for name, value in settings.items()]
    done = dry("env", *values, "latentmeter", "run", sweep, "--out", tmp_path / "run", gpu="rtx-4090")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "records.jsonl").read_text())
    estimate, measurement = record["estimate"], record["measurement"]
    assert (estimate["peak"]["allocated_bytes"], estimate["peak"]["reserved_bytes"]) == (
        measurement["peak"]["allocated_bytes"],
        measurement["peak"]["reserved_bytes"],
    )
    assert settings.items() <= measurement["stack"]["settings"].items()


def test_what_is_asked_of_the_allocator_reaches_the_worker() -> None:
    small = ("latentmeter", "measure", "sd1.5", "--height", "64", "--width", "64", "--warm-calls", "0", "--json")
    plain, asked = (
        json.loads(dry(*small, *more).stdout)["measurement"]
        for more in ((), ("--alloc-conf", "large_segment_size_mb:64"))
    )
    assert asked["stack"]["settings"]["PYTORCH_CUDA_ALLOC_CONF"] == "large_segment_size_mb:64"
    assert asked["peak"]["reserved_bytes"] != plain["peak"]["reserved_bytes"]
