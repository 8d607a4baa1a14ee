"""How a measurement may end, with real workers on the CPU: each end is an outcome with its reason, never an exception."""

import csv
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from profiler.measure.process import Outcome, measure_in_process
from profiler.models.catalog import find_model
from profiler.workload import MemoryOptions, Workload
from tests.integration.processes import group, phase, running, wait_for, workers_of

ROOT = Path(__file__).parents[2]
IMAGE = "tests/models/tiny-image.yaml"
VIDEO = "tests/models/tiny-video.yaml"
HUGE = 1 << 24  # pixels a side: 3 PiB of fp32 pixels, more than any address space, so that nothing is ever taken
MINUTES = 60.0  # attention over a quarter of a million positions: long after every test here has ended


def workload(model: str = IMAGE, stage: Any = "decode", **size: Any) -> Workload:
    return find_model(model).workload(stage, **size)


def endless() -> Workload:
    return workload(height=1024, width=1024)


@contextmanager
def measuring(work: Workload, **arguments: Any) -> Iterator[tuple[int, Future[Outcome]]]:
    """Measure in a thread; gives the worker's pid as soon as there is one, and the outcome to come."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(measure_in_process, work, "cpu", warm_calls=0, **arguments)
        (worker,) = wait_for(lambda: workers_of(os.getpid()), 10)
        yield worker, future


def test_a_timeout_ends_the_worker_and_everything_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A process of the worker's own, as a compiler or a data loader would be; started before anything else is imported.
    spawn = f"import subprocess, pathlib; pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(subprocess.Popen(['sleep', '600']).pid))"
    (tmp_path / "sitecustomize.py").write_text(spawn)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    started = time.monotonic()
    with measuring(endless(), timeout=1.5) as (worker, future):
        grandchild = int(wait_for((tmp_path / "pid").exists and (tmp_path / "pid").read_text, 10))
        assert sorted(group(worker)) == sorted([worker, grandchild])
        outcome = future.result()
    assert time.monotonic() - started < 20
    assert group(worker) == []
    assert not running(grandchild)
    assert outcome.status == "timeout"
    assert outcome.measurement is None
    assert outcome.failure
    assert outcome.failure.message.startswith("no result within 1.5 s, stopped in phase '")
