"""Fixtures of the whole suite."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

STUBS = Path(__file__).parent / "stubs"


@pytest.fixture(scope="session")
def nvml_stub(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """Compile the stub NVML once; `nvml_stub("container")` is the environment of a process that loads it.

    The scenarios stand at the top of tests/stubs/nvml.c.
    """
    compiler = shutil.which("gcc") or pytest.skip("no gcc: the stub NVML cannot be compiled")
    folder = tmp_path_factory.mktemp("nvml")
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", "libnvidia-ml.so.1", STUBS / "nvml.c"]
    subprocess.run(command, cwd=folder, check=True)

    def environment(scenario: str) -> dict[str, str]:
        paths = [str(folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(paths), "LATENTMETER_STUB_NVML": scenario}

    return environment
