"""The example that users are pointed to: it passes as it stands, and fails with the owner when its model grows."""

import shutil
from pathlib import Path

import diffusers
import pytest

from profiler.diagnosis import call  # noqa: F401 - once, here: pytester takes away again what a project of its own imports

pytest_plugins = ["pytester"]
EXAMPLE = Path(__file__).parents[2] / "examples" / "memory_tests"
PLUGIN = ("-p", "profiler.testing.plugin", "--strict-markers", "-p", "no:logging")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example to run and to change."""
    assert diffusers.DiTTransformer2DModel  # imported by that: diffusers imports a class when it is first asked for
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    shutil.copytree(EXAMPLE, pytester.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return pytester.path


def test_it_passes_beside_its_baseline(project: Path, pytester: pytest.Pytester) -> None:
    pytester.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=4)


def test_a_wider_module_is_named_as_the_owner_of_the_growth(project: Path, pytester: pytest.Pytester) -> None:
    file = project / "poster.py"
    file.write_text(file.read_text().replace("ratio: int = 4", "ratio: int = 6"))
    result = pytester.runpytest_inprocess(*PLUGIN, "-k", "four or offload")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "peak memory: 1.0?? GiB allocated, * above the limit of 1.000 GiB",
            "peak memory: grew by 160.0 MiB (+18.08 %, 1 % allowed): 884.8 MiB -> 1.0?? GiB allocated",
            "  +64.0 MiB  refiner.blocks.0.1 (addmm)",
            "  +64.0 MiB  refiner.blocks.0.2 (gelu)",
            "hot spot: * in refiner.blocks.0.2 (gelu), decode; fits on NVIDIA GeForce RTX 3060",
            "  192.0 MiB  16384x6144 bfloat16, refiner.blocks.0.1 (addmm): read by this op",
        ]
    )
