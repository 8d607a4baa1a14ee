"""Looks at real processes through /proc (proc_pid_stat(5))."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORKER = "profiler.measurement.worker"


def wait_for(condition: Callable[[], Any], seconds: float) -> Any:
    """Poll until `condition` gives something true, and return that; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain"
        time.sleep(0.01)
    return found


def running(pid: int) -> bool:
    """Whether the process is there and not a zombie that waits for its parent."""
    return _stat(pid) is not None


def workers_of(parent: int) -> list[int]:
    """The measuring processes that `parent` started and that run now."""
    return [pid for pid in _all() if (stat := _stat(pid)) and stat[0] == parent and WORKER in arguments(pid)]


def group(leader: int) -> list[int]:
    """Members of a process group that run now."""
    return [pid for pid in _all() if (stat := _stat(pid)) and stat[1] == leader]


def arguments(pid: int) -> list[str]:
    """The command line; empty where the process has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


def phase(worker: int) -> str | None:
    """The phase that a worker last reported in the open file that its last argument names; None before the first."""
    try:
        text = Path(f"/proc/{worker}/fd/{arguments(worker)[-1]}").read_text()
    except (OSError, IndexError):
        return None
    return text.rpartition('"phase": "')[2].partition('"')[0] or None


def _all() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _stat(pid: int) -> tuple[int, int] | None:
    """Parent and process group of a process that runs; None for one that has ended."""
    try:
        state, parent, leader = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return None
    return None if state in "ZX" else (int(parent), int(leader))
