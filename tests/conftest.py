"""Fixtures of the whole suite."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

os.environ["LATENTMETER_CACHE"] = "off"  # answers of other code, and files in a developer's home
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker for each core: more threads would wait for one another

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


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def latentmeter(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run the command line in this process, through its own entry point: `latentmeter("estimate", "sdxl", "--json")`."""
    from profiler.commands.main import main

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["latentmeter", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
        return Answer(code, *capfd.readouterr())

    return run


@pytest.fixture
def sweep_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a sweep for the CPU: `sweep_file({"model": ..., "stages": [...]}, ..., name="sweep", warm_calls=0)`."""

    def write(*cases: dict[str, Any], **fields: Any) -> Path:
        data = (
            {"name": "tiny", "title": "A tiny sweep", "device": "cpu", "warm_calls": 0} | fields | {"cases": [*cases]}
        )
        path = tmp_path / f"{data['name']}.yaml"
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        return path

    return write
