"""Hot spots measured in dry CUDA: torch's own history says what the estimate says."""

import json
from typing import Any

import pytest

from tests.dry.test_dry_cuda import dry

pytestmark = pytest.mark.dry
ASKED = ("latentmeter", "hotspots", "sd1.5", "--height", "256", "--width", "256", "--no-remedies", "--json")
OWN = ("allocated", "reserved", "baseline", "peak_at", "by_module", "findings", "workspace", "modules")


def found(*words: str) -> Any:
    done = dry(*ASKED, *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_measured_and_estimated_are_one() -> None:
    measured, estimated = found("--device", "cuda"), found("--gpu", "h200")
    assert (measured["source"], estimated["source"]) == ("dry", "estimated")
    assert {name: measured[name] for name in OWN} == {name: estimated[name] for name in OWN}
