"""Running a sweep: which folder it goes on with, which it refuses, and which cases it runs again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiler.errors import UserError
from profiler.files.store import RunStore
from profiler.sweeps import run as sweeps
from profiler.sweeps.plan import Plan, Sweep, plan_sweep
from profiler.sweeps.run import RunOptions, run_sweep
from tests.report import records_factory as factory

# A size that the model does not allow: its case is skipped, so that a run of them needs no torch.
IMPOSSIBLE = {"model": "tests/models/tiny-image.yaml", "stages": ["decode", "encode"], "height": 33}


@pytest.fixture(autouse=True)
def stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "probe_stack", lambda device: factory.CPU)


def sweep_of(**fields: Any) -> Plan:
    return plan_sweep(Sweep.model_validate({"name": "s", "title": "First", "cases": [IMPOSSIBLE]} | fields))


def test_a_run_goes_on_without_doing_a_case_twice(tmp_path: Path) -> None:
    found = run_sweep(sweep_of(), tmp_path)
    before = (tmp_path / "records.jsonl").read_bytes()
    assert [record.status for record in found] == ["skipped", "skipped"]
    assert run_sweep(sweep_of(), tmp_path) == found
    assert (tmp_path / "records.jsonl").read_bytes() == before


def test_a_torn_case_comes_again(tmp_path: Path) -> None:
    run_sweep(sweep_of(), tmp_path)
    path = tmp_path / "records.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:-1])
    told = []
    assert len(run_sweep(sweep_of(), tmp_path, tell=told.append)) == 2
    assert {progress.number for progress in told} == {2}
    assert path.read_bytes().splitlines(keepends=True)[0] == first
    assert path.read_bytes().count(b"\n") == 2


def test_another_sweep_is_refused(tmp_path: Path) -> None:
    run_sweep(sweep_of(), tmp_path)
    with pytest.raises(
        UserError,
        match=r"holds a run of another sweep, or of models edited since \('First'\); --force replaces it, --out",
    ):
        run_sweep(sweep_of(title="Second"), tmp_path)


def test_another_stack_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_sweep(sweep_of(), tmp_path)
    begun, other = factory.CPU, replace(factory.CPU, torch="2.14.0")
    monkeypatch.setattr(sweeps, "probe_stack", lambda device: other)
    with pytest.raises(
        UserError, match=rf"begun on another stack \({begun.fingerprint}, here {other.fingerprint}: CPU, torch"
    ):
        run_sweep(sweep_of(), tmp_path)


def test_force_replaces_the_run(tmp_path: Path) -> None:
    run_sweep(sweep_of(), tmp_path)
    other = sweep_of(title="Second", cases=[IMPOSSIBLE | {"height": 35}])
    found = run_sweep(other, tmp_path, RunOptions(force=True))
    assert [record.workload.height for record in found] == [35, 35]
    assert RunStore(tmp_path).header().title == "Second"


def test_force_that_dies_half_way_leaves_no_old_record_for_the_new_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sweep(sweep_of(), tmp_path)
    unlink = Path.unlink

    def die(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", die)
        run_sweep(sweep_of(title="Second"), tmp_path, RunOptions(force=True))
    told = []
    run_sweep(sweep_of(), tmp_path, tell=told.append)
    assert {progress.number for progress in told} == {1, 2}


def test_retry_runs_timeouts_and_crashes_again(tmp_path: Path) -> None:
    first, _ = run_sweep(sweep_of(), tmp_path)
    RunStore(tmp_path).append(replace(first, status="crash"))
    assert [record.status for record in run_sweep(sweep_of(), tmp_path)] == ["crash", "skipped"]
    found = run_sweep(sweep_of(), tmp_path, RunOptions(retry=True))
    assert [record.status for record in found] == ["skipped", "skipped"]


def test_a_folder_that_another_run_holds_is_refused(tmp_path: Path) -> None:
    with RunStore(tmp_path).writing(), pytest.raises(UserError, match="another run is writing here"):
        run_sweep(sweep_of(), tmp_path)


def test_a_model_that_was_edited_since_makes_another_run(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "models" / "tiny-image.yaml").read_text()
    model, out = tmp_path / "model.yaml", tmp_path / "run"
    model.write_text(text)
    cases = [IMPOSSIBLE | {"model": str(model)}]
    found = run_sweep(sweep_of(cases=cases), out)
    assert run_sweep(sweep_of(cases=cases), out) == found
    model.write_text(text.replace("scaling_factor: 0.18215", "scaling_factor: 0.5"))
    with pytest.raises(UserError, match="models edited since"):
        run_sweep(sweep_of(cases=cases), out)


def test_options_that_a_model_or_card_does_not_take_are_skipped_rows_with_the_reason(tmp_path: Path) -> None:
    options = [{"attention": "flash"}, {"attention": "math"}, {"framewise": True}, {"tiling": True, "tile": [32, 16]}]
    case = {"model": IMPOSSIBLE["model"], "stages": ["decode"], "gpu": "t4", "options": options}
    found = run_sweep(sweep_of(cases=[case], events=False), tmp_path)
    assert [record.status for record in found] == ["skipped", "ok", "skipped", "skipped"]
    assert [record.failure and record.failure.message.split("; ")[0] for record in found][2:] == [
        "framewise: cannot be applied: AutoencoderKL has no framewise switch",
        "tile: cannot be applied: AutoencoderKL has square tiles only",
    ]
    assert found[0].failure and "flash takes float16 and bfloat16, not float32" in found[0].failure.message
    assert found[0].estimate is None
