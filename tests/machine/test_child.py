"""Processes of our own end with the one that started them, whatever they do at that moment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from profiler.machine.child import child_command
from tests.integration.processes import running, wait_for

PACKAGE = Path(__file__).parents[2] / "profiler"
# The interpreter's lock stays held while C sleeps, as in an import of torch or in a kernel: no other thread runs.
BUSY = "import ctypes, os; print(os.getpid(), flush=True); ctypes.PyDLL(None).sleep(600)"
PARENT = """
import subprocess
from profiler.machine.child import child_command
subprocess.Popen(child_command("busy")).wait()
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "busy.py").write_text(BUSY)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), str(tmp_path)])}


def test_a_child_ends_with_its_parent_though_it_holds_the_interpreter(environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert running(child)
        parent.kill()
    wait_for(lambda: not running(child), 5)


def test_a_child_whose_parent_is_gone_already_does_not_begin(environment: dict[str, str]) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    command = child_command("busy")
    command[command.index(str(os.getpid()))] = str(gone.pid)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")


def test_a_child_is_the_module_that_it_runs(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text("import sys; print(__name__, sys.argv[1:])")
    done = subprocess.run(
        child_command("busy", "a b", "c"), env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "__main__ ['a b', 'c']\n")
    (tmp_path / "busy.py").write_text("import os; os.kill(os.getpid(), 40)")
    assert subprocess.run(child_command("busy"), env=environment, timeout=60, check=False).returncode == -40


def test_no_process_is_started_in_another_way() -> None:
    starters = {path.name for path in PACKAGE.rglob("*.py") if "sys.executable" in path.read_text(encoding="utf-8")}
    assert starters == {"child.py"}
