"""scripts/op_sweep where it cannot run; what it finds is tested in dry CUDA (tests/dry)."""

import subprocess
import sys

from tests.scripts import SCRIPTS


def test_a_python_without_torch_is_told_in_one_line_what_to_run_it_with() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", SCRIPTS / "op_sweep"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"op_sweep: {sys.executable} has no module torch: run it with a Python that has ")
    assert done.stderr.count("\n") == 1
