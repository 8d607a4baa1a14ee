"""Running a sweep: which folder it goes on with, which it refuses, and which cases it runs again."""

import itertools
import resource
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from profiler import api
from profiler.errors import LatentmeterError, UserError
from profiler.files.load import from_dict
from profiler.files.store import RunStore
from profiler.measurement.process import Outcome
from profiler.sweeps import run as sweeps
from profiler.sweeps.plan import Plan, Sweep, plan_sweep
from profiler.sweeps.publish import publish
from profiler.sweeps.run import Progress, RunOptions, run_sweep
from tests.report import records_factory as factory

# A size that the model does not allow: its case is skipped, so that a run of them needs no torch.
IMPOSSIBLE = {"model": "tests/models/tiny-image.yaml", "stages": ["decode", "encode"], "height": 33}


@pytest.fixture(autouse=True)
def stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "probe_stack", lambda device: factory.CPU)


def sweep_of(**fields: Any) -> Plan:
    return plan_sweep(from_dict(Sweep, {"name": "s", "title": "First", "cases": [IMPOSSIBLE]} | fields))


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


def test_force_keeps_the_old_run_until_the_first_new_record_is_there(tmp_path: Path) -> None:
    found = run_sweep(sweep_of(), tmp_path)
    other = sweep_of(title="Second", cases=[IMPOSSIBLE | {"height": 35}])
    command = ("latentmeter", "run", "my sweep.yaml", "--force")

    def die(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stop:
        run_sweep(other, tmp_path, RunOptions(force=True, command=command), tell=die)
    assert stop.value.__notes__ == [
        f"0 of 2 cases are saved in {tmp_path}; to go on: latentmeter run 'my sweep.yaml' --force"
    ]
    assert RunStore(tmp_path).header().title == "First"
    assert RunStore(tmp_path).records() == found

    def die_later(progress: Progress) -> None:
        if progress.record:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stop:
        run_sweep(other, tmp_path, RunOptions(force=True, command=command), tell=die_later)
    assert stop.value.__notes__ == [f"1 of 2 cases are saved in {tmp_path}; to go on: latentmeter run 'my sweep.yaml'"]
    assert RunStore(tmp_path).header().title == "Second"
    assert len(run_sweep(other, tmp_path)) == 2


def test_a_damaged_line_is_left_out_and_its_case_comes_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = run_sweep(sweep_of(), tmp_path)
    path = tmp_path / "records.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\n" + second[: len(second) // 2] + b"\n")
    assert [record.key for record in run_sweep(sweep_of(), tmp_path)] == [record.key for record in found]
    assert "line 2: not a record: " in caplog.text
    assert "and 1 more; left out: `latentmeter report " in caplog.text
    caplog.clear()
    assert len(run_sweep(sweep_of(), tmp_path, RunOptions(repair=True))) == 2
    assert "2 of 4 lines set aside in " in caplog.text
    assert path.read_bytes().count(b"\n") == 2
    publish(tmp_path)


@pytest.mark.parametrize("text", [None, b"", b"{}"])
def test_records_without_a_header_are_not_taken_for_another_runs(
    tmp_path: Path, text: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Both sweeps have the case of height 33, by the same key; the first has one of 35 besides."""
    wide = sweep_of(cases=[IMPOSSIBLE | {"height": [33, 35]}])
    run_sweep(wide, tmp_path)
    header = tmp_path / "run.json"
    header.unlink() if text is None else header.write_bytes(text)
    with pytest.raises(UserError, match=r"whose the records are is not known; --repair keeps .*--force .*--out"):
        run_sweep(sweep_of(), tmp_path)
    assert len(RunStore(tmp_path).records()) == 4
    publish(tmp_path)
    assert "(run.json is damaged or gone)" in (tmp_path / "report.md").read_text()

    told: list[Progress] = []
    assert len(run_sweep(sweep_of(), tmp_path, RunOptions(repair=True), tell=told.append)) == 2
    assert not told, "the case of 33 is the same, and stays"
    assert "2 of 4 lines set aside" in caplog.text
    assert RunStore(tmp_path).header().title == "First"


def test_a_damaged_header_alone_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "run.json").touch()
    assert len(run_sweep(sweep_of(), tmp_path)) == 2


def test_a_full_disk_says_what_is_saved_and_what_to_do(tmp_path: Path) -> None:
    command = ("latentmeter", "run", "s", "--out", "my folder")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    records = tmp_path / "records.jsonl"

    def fill(progress: Progress) -> None:
        if progress.record:
            resource.setrlimit(resource.RLIMIT_FSIZE, (records.stat().st_size + 100, hard))

    try:
        with pytest.raises(LatentmeterError) as full:
            run_sweep(sweep_of(), tmp_path, RunOptions(command=command), tell=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not isinstance(full.value, UserError), "nobody's mistake: exit code 1"
    assert str(full.value) == (
        f"{tmp_path}: File too large, make room first; 1 of 2 cases are saved in {tmp_path}; "
        "to go on: latentmeter run s --out 'my folder'"
    )
    assert records.read_bytes().endswith(b"\n")
    assert len(run_sweep(sweep_of(), tmp_path)) == 2


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_folder_that_is_deleted_meanwhile_ends_the_run_with_a_message(tmp_path: Path, moment: str) -> None:
    folder = tmp_path / "run"

    def delete(progress: Progress) -> None:
        if (progress.record is None) == (moment == "before"):
            shutil.rmtree(folder)

    with pytest.raises(
        LatentmeterError, match=f"the folder {folder} is gone, and its records with it; begin again: l r"
    ):
        run_sweep(sweep_of(), folder, RunOptions(command=("l", "r")), tell=delete)


def test_a_clock_that_is_set_back_makes_no_duration_negative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the date finds an earlier one, in a run and in one measurement."""
    begun = datetime(2026, 11, 20, tzinfo=UTC)
    hours = itertools.count()
    clock = SimpleNamespace(now=lambda zone: begun - timedelta(hours=next(hours)))
    monkeypatch.setattr(sweeps, "datetime", clock)
    monkeypatch.setattr(api, "datetime", clock)
    monkeypatch.setattr(time, "time", lambda: -3600.0 * next(hours))
    monkeypatch.setattr("profiler.machine.probe.probe_stack", lambda device, alloc_conf: factory.CPU)
    monkeypatch.setattr("profiler.measurement.process.measure_in_process", lambda *_, **__: Outcome(status="timeout"))
    alone = api.measure("tests/models/tiny-image.yaml")
    found = [*run_sweep(sweep_of(), tmp_path, RunOptions(budget_minutes=5)), alone]
    assert [0 <= record.seconds < 60 for record in found] == [True] * 3
    assert found[0].started > found[1].started


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
