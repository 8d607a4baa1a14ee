"""How a measurement may end, with real workers on the CPU: each end is an outcome with its reason, never an exception."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from profiler.data.workload import Workload
from profiler.files.store import RunStore
from profiler.measurement.process import Outcome, measure_in_process
from profiler.models.find import find_model
from tests.integration.processes import group, phase, running, wait_for, workers_of

IMAGE = "tests/models/tiny-image.yaml"
VIDEO = "tests/models/tiny-video.yaml"
HUGE = {"height": 1_000_000, "width": 1_000_000, "batch": 16}
HUGE_BYTES = 16 * 3 * 1_000_000**2 * 4  # of its fp32 pixels: beyond any address space, so that nothing is ever taken
ADDRESS_SPACE = 1 << 47


def workload(model: str = IMAGE, stage: Any = "decode", **size: Any) -> Workload:
    return find_model(model).workload(stage, **size)


def measured(work: Workload, **options: Any) -> Outcome:
    return measure_in_process(work, find_model(work.model), "cpu", **options)


def endless() -> Workload:
    """Attention over a quarter of a million positions: a minute or more."""
    return workload(height=1024, width=1024)


@contextmanager
def measuring(work: Workload, timeout: float = 120.0) -> Iterator[tuple[int, Future[Outcome]]]:
    """Measure in a thread; gives the worker's pid as soon as there is one, and the outcome to come."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(measure_in_process, work, find_model(work.model), "cpu", warm_calls=0, timeout=timeout)
        (worker,) = wait_for(lambda: workers_of(os.getpid()), 20)
        yield worker, future


@pytest.fixture
def at_start_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give code that each new Python process runs before anything else."""

    def install(code: str) -> None:
        (tmp_path / "sitecustomize.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return install


def test_a_timeout_ends_the_worker_and_everything_that_it_started(
    tmp_path: Path, at_start_of_python: Callable[[str], None]
) -> None:
    noted = tmp_path / "pid"
    at_start_of_python(
        "import pathlib, subprocess\n"
        f"pathlib.Path({str(noted)!r}).write_text(str(subprocess.Popen(['sleep', '600']).pid))\n"
    )
    with measuring(endless(), timeout=3) as (worker, future):
        child = int(wait_for(lambda: noted.exists() and noted.read_text(), 20))
        assert {worker, child} <= set(group(worker))
        outcome = future.result()
    wait_for(lambda: not group(worker), 5)
    assert not running(child)
    assert (outcome.status, outcome.measurement) == ("timeout", None)
    assert outcome.failure
    assert outcome.failure.message.startswith("no result within 3 s, stopped in phase '")
    assert outcome.failure.signal is None


@pytest.mark.parametrize(
    ("number", "name", "moment"),
    [(signal.SIGSEGV, "SIGSEGV", None), (40, "signal 40", None), (signal.SIGKILL, "SIGKILL", "cold")],
)
def test_a_signal_is_a_crash_with_its_name(number: int, name: str, moment: str | None) -> None:
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))
    try:
        with measuring(endless()) as (worker, future):
            wait_for(lambda: moment in (None, phase(worker)), 60)
            os.kill(worker, number)
            outcome = future.result()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)
    expected = moment or "start"
    assert (outcome.status, outcome.measurement) == ("crash", None)
    assert outcome.failure
    assert (outcome.failure.signal, outcome.failure.exit_code) == (name, -number)
    assert outcome.failure.phase == expected
    assert outcome.failure.message.startswith(f"the worker was ended by {name} in phase '{expected}'")
    assert ("out-of-memory killer" in outcome.failure.message) == (number == signal.SIGKILL)
    # What the worker had told before it was killed is kept.
    assert (outcome.stack is not None) == (moment is not None)


def test_a_worker_that_ends_by_itself_is_a_crash_with_its_last_words(at_start_of_python: Callable[[str], None]) -> None:
    at_start_of_python("import os\nos.write(2, b'first\\nlast words\\n')\nos._exit(7)\n")
    outcome = measured(workload())
    assert outcome.status == "crash"
    assert outcome.failure
    assert outcome.failure.message == "the worker ended with exit code 7 in phase 'start': last words"
    assert (outcome.failure.signal, outcome.failure.exit_code) == (None, 7)
    assert outcome.failure.log == "first\nlast words"


def test_an_allocation_that_the_cpu_refuses_is_an_oom_with_its_size() -> None:
    assert HUGE_BYTES > ADDRESS_SPACE
    outcome = measured(workload(stage="encode", **HUGE), timeout=120)
    assert (outcome.status, outcome.measurement) == ("oom", None)
    assert outcome.failure
    assert outcome.failure.requested_bytes == HUGE_BYTES
    assert outcome.failure.phase == "inputs"
    assert f"you tried to allocate {HUGE_BYTES} bytes" in outcome.failure.message
    assert outcome.stack


def test_a_config_that_diffusers_rejects_is_invalid(tmp_path: Path) -> None:
    model = tmp_path / "rejected.yaml"
    model.write_text(Path(IMAGE).read_text().replace("norm_num_groups: 4", "norm_num_groups: 5"))
    outcome = measured(workload(str(model)), timeout=120)
    assert (outcome.status, outcome.measurement) == ("invalid", None)
    assert outcome.failure
    assert outcome.failure.phase == "model"
    assert outcome.failure.message.startswith("AutoencoderKL rejects its config: ")


def test_an_input_that_the_model_cannot_run_with_is_invalid(tmp_path: Path) -> None:
    model = tmp_path / "wider.yaml"
    model.write_text(Path(IMAGE).read_text().replace("[B, L, cross_attention_dim]", "[B, L, 17]"))
    outcome = measured(workload(str(model), "denoise"), warm_calls=0, timeout=120)
    assert outcome.status == "invalid"
    assert outcome.failure
    assert outcome.failure.phase == "cold"
    assert "mat1 and mat2 shapes cannot be multiplied" in outcome.failure.message
    # What was measured until then is kept: the phases before, and the one that failed as far as it came.
    model, inputs, cold = outcome.failure.readings
    assert (model.phase, inputs.phase, cold.phase) == ("model", "inputs", "cold")
    assert 0 < (model.end.allocated_bytes or 0) < (inputs.end.allocated_bytes or 0) <= (cold.peak.allocated_bytes or 0)
    assert model.seconds and inputs.seconds and cold.seconds is None


def test_an_oom_is_a_row_of_its_run_and_the_run_goes_on(
    latentmeter: Callable[..., Any], sweep_file: Callable[..., Path], tmp_path: Path
) -> None:
    huge = {"model": IMAGE, "stages": ["encode"], **HUGE}
    sweep = sweep_file(huge, {"model": IMAGE, "stages": ["patch-embed"]})
    out = tmp_path / "run"
    answer = latentmeter("run", sweep, "--out", out)
    assert answer.code == 1
    assert "oom" in answer.out
    failed, done = RunStore(out).records()
    assert (failed.status, done.status) == ("oom", "ok")
    assert failed.failure
    assert failed.failure.requested_bytes == HUGE_BYTES
    assert [reading.phase for reading in failed.failure.readings] == ["model", "inputs"]
    assert failed.estimate, "what it would have taken is still said"
    assert (failed.estimate.peak.allocated_bytes or 0) > HUGE_BYTES

    table = pd.read_csv(out / "records.csv", dtype={"allocated_estimated_bytes": "Int64"})
    assert list(table["status"]) == ["oom", "ok"]
    assert table["allocated_estimated_bytes"][0] == failed.estimate.peak.allocated_bytes
    assert "oom" in (out / "report.md").read_text()

    # An OOM is an answer: the same command does not ask again, and says once more that a case failed.
    lines = (out / "records.jsonl").read_bytes()
    assert latentmeter("run", sweep, "--out", out).code == 1
    assert (out / "records.jsonl").read_bytes() == lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_command_that_is_ended_leaves_no_folder_and_no_process(tmp_path: Path, number: signal.Signals) -> None:
    """It promises nothing either: what `measure` had done is lost."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    size = ["--height", "1024", "--width", "1024"]
    command = [sys.executable, "-m", "profiler", "measure", IMAGE, "--device", "cpu", *size]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        (worker,) = wait_for(lambda: workers_of(process.pid), 60)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert out == f"measure {IMAGE}/decode/1x1024x1024/b1/fp32\n"
    told = (-number, "") if number == signal.SIGKILL else (128 + number, "latentmeter: interrupted")
    assert (process.returncode, err.strip()) == told
    wait_for(lambda: not running(worker), 5)
    left = [path.name for path in tmp_path.iterdir()]
    assert [name for name in left if not name.startswith("torchinductor_")] == [], "torch's cache is not ours"


def test_a_folder_that_cannot_be_written_is_a_users_mistake(tmp_path: Path, sweep_file: Callable[..., Path]) -> None:
    """As an ordinary user: root is held by no permission until it gives up the capability to override them."""
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o555)
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    sweep = sweep_file({"model": IMAGE, "stages": ["decode"], "height": 33})
    for out in (folder, folder / "run"):
        command = [*drop, sys.executable, "-m", "profiler", "run", str(sweep), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (
            2,
            f"latentmeter: {out}: cannot be written: Permission denied; choose another place\n",
        )
