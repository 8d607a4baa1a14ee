"""The recordings that come with the package: of today's code, equal to traces at sizes of their own, found without torch."""

import base64
import hashlib
import os
import random
import subprocess
import sys
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from profiler.data.workload import STAGES, StageName
from profiler.estimation import shipped
from profiler.estimation.cache import EstimateCache
from profiler.estimation.estimator import trace_stage
from profiler.estimation.recorder import at
from profiler.estimation.recording import replay
from profiler.files.cache import digest
from profiler.kernels.prices import Elsewhere
from profiler.machine.cards import assumed_stack, gpu
from profiler.models.catalog import catalog_model
from tests.scripts import load_script

STACK = assumed_stack(gpu("h200"))
TABLE = shipped.read_table()
NOW = digest(shipped.made_by(STACK.torch_release))
NAMES = sorted(name for name in TABLE["files"] if shipped.path_of(*name.split("/")).is_file())
drawn = load_script("make_recordings").drawn
FROM_HERE = pytest.mark.skipif(
    TABLE["by"]["traced on torch"] != shipped.made_by(STACK.torch_release)["traced on torch"],
    reason="they were traced on another torch, and serve that alone",
)
ALONE = "import sys; sys.modules.update(torch=None, pydantic=None); from profiler.__main__ import main; main()"


def stage_of(name: str) -> tuple[str, StageName]:
    model, stage = name.split("/")
    return model, STAGES[STAGES.index(stage)]  # type: ignore[arg-type]


@FROM_HERE
def test_they_are_of_todays_code() -> None:
    others = [name for name in NAMES if TABLE["files"][name] != NOW]
    assert not others, f"scripts/make_recordings checks {len(others)} of {len(NAMES)} anew, and mends what differs"


def test_all_of_them_will_pack_into_12_mb() -> None:
    """Of some 416 stages each may have so much: without what layers share they took twice that in the mean."""
    assert sum(shipped.path_of(*name.split("/")).stat().st_size for name in NAMES) / len(NAMES) < 12e6 / 416


def test_an_edit_of_what_is_traced_is_noticed_and_else_its_record_believed(tmp_path: Path) -> None:
    package, record = tmp_path / "models", tmp_path / "some-1.0.dist-info" / "RECORD"
    package.mkdir()
    record.parent.mkdir()
    a, b = package / "a.py", package / "b.py"
    a.write_text("x = 1\n")
    b.write_text("y = 1\n")
    content = base64.urlsafe_b64encode(hashlib.sha256(a.read_bytes()).digest()).decode().rstrip("=")
    record.write_text(f"models/a.py,sha256={content},6\nmodels/b.py,sha256=believed,6\nsome-1.0.dist-info/RECORD,,\n")

    def found(*, read: bool = False) -> str:
        return shipped.content_of(package.rglob("*.py"), None if read else record)

    first = found()
    assert first != found(read=True)  # b is not read: the list names other content, which stands for an old, whole one
    later = record.stat().st_mtime_ns + 1_000_000
    os.utime(b, ns=(later, later))
    assert first != found() == found(read=True)
    a.write_text("x = 2\n")  # as long as before
    os.utime(a, ns=(later, later))
    second = found()
    assert second == found(read=True)
    (package / "c.py").write_text("")
    assert found() not in (first, second)


@FROM_HERE
@pytest.mark.parametrize("name", random.Random(1).sample(NAMES, min(6, len(NAMES))))
def test_a_sample_equals_a_trace(name: str) -> None:
    model, stage = stage_of(name)
    found = shipped.shipped(model, stage)
    assert found is not None
    rng = random.Random(name)
    kind = rng.choice(sorted(found["of"]))
    recordings = shipped.recordings_of(found, kind)
    rng.shuffle(recordings)
    spec = catalog_model(model)
    for recording, _, card in product(recordings, range(2), ("h200", "t4", "rtx-4090")):
        size = drawn(recording, rng)
        stack = assumed_stack(gpu(card))
        try:
            again = replay(recording, size, stack).events
        except Elsewhere:
            continue
        trace = trace_stage(at(spec.workload(stage, dtype=kind), size), spec, stack).trace
        assert again.events == trace.events
        facts = [[(b.bytes, b.shape, b.dtype, b.term) for b in stream.blocks] for stream in (again, trace)]
        assert facts[0] == facts[1]
        return
    raise AssertionError("none of them serves a size on any of the cards")


@FROM_HERE
@pytest.mark.skipif("sdxl/decode" not in NAMES, reason="sdxl is not recorded")
def test_a_fresh_install_answers_without_torch_without_pydantic_and_without_a_home_to_write_to(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    environment = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "LATENTMETER_CACHE")}
    words = ["estimate", "sdxl", "--height", "888", "--width", "1184", "--gpu", "rtx-4090"]
    ran = subprocess.run(
        [sys.executable, "-c", ALONE, *words],
        capture_output=True, text=True, check=False, env=environment | {"HOME": str(home)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "replayed from a recording" in ran.stdout


@FROM_HERE
def test_another_torch_is_traced_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LATENTMETER_CACHE", "on")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    spec = catalog_model("auraflow")
    known = EstimateCache(spec.workload("decode"), spec, assumed_stack(gpu("h200"), "2.11.0"))
    assert (known.find(), known.why_traced) == (None, "the recordings are of torch 2.13.0, not 2.11.0")
    larger = EstimateCache(spec.workload("decode", height=8192, width=8192), spec, STACK)
    assert (larger.find(), larger.why_traced) == (None, "this size lies outside the recordings")


def test_what_is_asked_most_is_recorded_first() -> None:
    script = load_script("make_recordings")
    tasks = script.tasks([], None)
    missing = [task for task in tasks if not shipped.path_of(*task).is_file()]
    assert tasks[: len(tasks) - len(missing)] == [task for task in tasks if task not in missing]
    wanted = [("wan2.1-t2v-14b", "encode"), ("dc-ae-f32c32", "encode"), ("wan2.1-t2v-14b", "roundtrip")]
    order = [task for task in missing if task in wanted]
    assert order == [task for task in wanted if task in missing]


def test_what_failed_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_script("make_recordings")
    monkeypatch.setattr(shipped, "RECORDINGS", tmp_path)

    def make(task: tuple[str, str], force: bool) -> tuple[str, str]:
        if task[1] == "encode":
            raise RuntimeError("broken")
        return "recorded", ""

    monkeypatch.setattr(script, "make", make)
    monkeypatch.setattr(script, "ProcessPoolExecutor", lambda count, **_: ThreadPoolExecutor(count))

    def run(**changes: Any) -> tuple[int, str]:
        asked = {"models": ["sd1.5"], "stage": None, "force": False, "budget_minutes": 1e9} | changes
        return script.record_all(Namespace(**asked)), capsys.readouterr().out

    assert "5 stages, 5 to make or check\n" in run(budget_minutes=0)[1]
    code, told = run()
    assert (code, "1 of 5 left, 1 of them failed\nsd1.5/encode: RuntimeError('broken')\n" in told) == (1, True)
    assert "5 stages, 1 to make or check\n" in run()[1]
