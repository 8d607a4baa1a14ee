"""`latentmeter run`, killed for real: what was saved stays, nothing is done twice, and no worker is left behind."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from profiler.files.store import RunStore
from profiler.sweeps import run as sweeps
from tests.integration.processes import phase, running, wait_for, workers_of
from tests.report import records_factory as factory

ROOT = Path(__file__).parents[2]
IMAGE = "tests/models/tiny-image.yaml"
VIDEO = "tests/models/tiny-video.yaml"
# A size that the model does not allow: its case is skipped, which costs nothing.
IMPOSSIBLE = {"model": IMAGE, "stages": ["decode", "encode"], "height": 33}

SweepFile = Callable[..., Path]
Command = Callable[..., Any]


@contextmanager
def running_sweep(sweep: Path, out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a process of its own; killed at the end if it still runs."""
    command = [sys.executable, "-m", "profiler", "run", str(sweep), "--out", str(out)]
    with (
        (out.parent / "run.log").open("ab") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def run_to_its_end(sweep: Path, out: Path) -> None:
    with running_sweep(sweep, out) as process:
        assert process.wait(120) == 0, (out.parent / "run.log").read_text()


def lines(out: Path) -> list[bytes]:
    """The whole lines of the records; a torn last one is left out."""
    path = out / "records.jsonl"
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def keys(out: Path) -> list[str]:
    return [json.loads(line)["key"] for line in lines(out)]


def test_a_killed_run_goes_on_where_it_stood(sweep_file: SweepFile, tmp_path: Path) -> None:
    out = tmp_path / "run"
    sweep = sweep_file(
        {"model": IMAGE, "stages": ["patch-embed", "decode"]}, {"model": VIDEO, "stages": ["patch-embed"]}, IMPOSSIBLE
    )
    planned = [
        f"{IMAGE}/patch-embed/1x32x32/b1/fp32",
        f"{IMAGE}/decode/1x32x32/b1/fp32",
        f"{VIDEO}/patch-embed/5x32x32/b1/fp32",
        f"{IMAGE}/decode/1x33x32/b1/fp32",
        f"{IMAGE}/encode/1x33x32/b1/fp32",
    ]
    with running_sweep(sweep, out) as process:
        (worker,) = wait_for(lambda: lines(out) and workers_of(process.pid), 60)
        process.kill()
    before = lines(out)
    assert 1 <= len(before) < len(planned)
    wait_for(lambda: not running(worker), 15)

    run_to_its_end(sweep, out)
    assert lines(out)[: len(before)] == before
    assert keys(out) == planned
    assert list(pd.read_csv(out / "records.csv")["key"]) == planned
    for name in ("report.html", "report.md"):
        assert "A tiny sweep" in (out / name).read_text()


def test_a_worker_ends_when_its_run_is_killed(sweep_file: SweepFile, tmp_path: Path) -> None:
    out = tmp_path / "run"
    # A minute of attention in one kernel: this worker would not end by itself in time.
    sweep = sweep_file({"model": IMAGE, "stages": ["decode"], "height": 1024, "width": 1024})
    with running_sweep(sweep, out) as process:
        (worker,) = wait_for(lambda: workers_of(process.pid), 60)
        wait_for(lambda: phase(worker) == "cold", 60)
        time.sleep(0.5)
        process.kill()
    wait_for(lambda: not running(worker), 5)
    assert lines(out) == []


def test_a_run_killed_again_and_again_loses_and_repeats_nothing(sweep_file: SweepFile, tmp_path: Path) -> None:
    out = tmp_path / "run"
    estimated = {"model": IMAGE, "stages": ["encode", "decode", "denoise", "patch-embed"], "gpu": "h200"}
    sweep = sweep_file(estimated | {"height": [32, 64, 96]}, IMPOSSIBLE, estimated | {"batch": 2})
    chance = random.Random(20261120)
    for wanted in (0, 2, 12):
        before = lines(out)
        with running_sweep(sweep, out) as process:
            wait_for(lambda: len(lines(out)) >= wanted or process.poll() is not None, 60)  # noqa: B023
            time.sleep(chance.uniform(0, 0.2) if wanted else chance.uniform(0, 3))
            process.kill()
        assert lines(out)[: len(before)] == before

    before = lines(out)
    run_to_its_end(sweep, out)
    assert lines(out)[: len(before)] == before
    found = keys(out)
    assert len(found) == len(set(found)) == 12 + 2 + 4
    assert list(pd.read_csv(out / "records.csv")["key"]) == found


@pytest.fixture
def _no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "probe_stack", lambda device: factory.CPU)


def test_a_terminated_run_says_with_which_words_it_goes_on(sweep_file: SweepFile, tmp_path: Path) -> None:
    """As Slurm and CI end it. The case that ran is dropped whole; the command is that of the user, in a shell's words."""
    out, folder = tmp_path / "my run", tmp_path / "my sweeps"
    folder.mkdir()
    sweep = sweep_file(IMPOSSIBLE, {"model": IMAGE, "stages": ["decode"], "height": 1024, "width": 1024})
    sweep = sweep.rename(folder / sweep.name)
    with running_sweep(sweep, out) as process:
        (worker,) = wait_for(lambda: workers_of(process.pid), 120)
        process.terminate()
        assert process.wait(300) == 143  # a busy machine takes its time; the case itself would take longer
    wait_for(lambda: not running(worker), 5)
    assert (tmp_path / "run.log").read_text().splitlines()[-2:] == [
        "latentmeter: interrupted",
        f"2 of 3 cases are saved in {out}; to go on: latentmeter run '{sweep}' --out '{out}'",
    ]
    assert len(lines(out)) == 2
    assert RunStore(out).header().command == f"latentmeter run '{sweep}' --out '{out}'"


@pytest.mark.usefixtures("_no_probe")
def test_a_skipped_case_is_counted_in_words(sweep_file: SweepFile, latentmeter: Command, tmp_path: Path) -> None:
    answer = latentmeter("run", sweep_file(IMPOSSIBLE), "--out", tmp_path / "run")
    assert answer.code == 0
    assert "Skipped, neither measured nor estimated: 2 of 2 cases:\n  height: 33 is not a multiple" in answer.out


@pytest.mark.usefixtures("_no_probe")
def test_repair_is_there_for_a_run_and_for_a_report(
    sweep_file: SweepFile, latentmeter: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, sweep = tmp_path / "run", sweep_file(IMPOSSIBLE)
    latentmeter("run", sweep, "--out", out)
    for command in (("report", out), ("run", sweep, "--out", out)):
        with (out / "records.jsonl").open("ab") as stream:
            stream.write(b"garbage\n")
        caplog.clear()
        assert latentmeter(*command).code == 0
        assert latentmeter(*command, "--repair").code == 0
        assert f"1 of 3 lines set aside in {out / 'records.damaged.jsonl'}" in caplog.text
    assert (out / "records.damaged.jsonl").read_text() == "garbage\n" * 2
    assert len(lines(out)) == 2


def test_force_starts_anew(sweep_file: SweepFile, latentmeter: Command, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert latentmeter("run", sweep_file(IMPOSSIBLE), "--out", out).code == 0
    other = sweep_file(IMPOSSIBLE | {"height": 35}, name="other")

    refused = latentmeter("run", other, "--out", out)
    assert refused.code == 2
    assert (
        f"{out}: holds a run of another sweep, or of models edited since ('A tiny sweep'); --force replaces it"
        in refused.err
    )
    assert ["1x33x32" in key for key in keys(out)] == [True, True]

    assert latentmeter("run", other, "--out", out, "--force").code == 0
    assert ["1x35x32" in key for key in keys(out)] == [True, True]
    assert "33x32" not in (out / "records.csv").read_text()


def test_a_budget_that_is_too_small_stops_before_the_first_case(
    sweep_file: SweepFile, latentmeter: Command, tmp_path: Path
) -> None:
    out, sweep = tmp_path / "run", sweep_file(IMPOSSIBLE)
    answer = latentmeter("run", sweep, "--out", out, "--budget-minutes", 0.001)
    assert answer.code == 0
    assert "0 of 2 cases done: the same command goes on with the rest." in answer.out
    assert keys(out) == []
    assert (out / "report.html").exists()

    answer = latentmeter("run", sweep, "--out", out)
    assert answer.code == 0
    assert "cases done" not in answer.out
    assert len(keys(out)) == 2


def test_a_case_that_the_budget_cuts_off_is_left_for_another_time(
    sweep_file: SweepFile, latentmeter: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "_least_seconds", lambda case: 0.0)
    out = tmp_path / "run"
    sweep = sweep_file({"model": IMAGE, "stages": ["decode"], "height": 1024, "width": 1024}, IMPOSSIBLE)
    answer = latentmeter("run", sweep, "--out", out, "--budget-minutes", 0.1)
    assert answer.code == 0
    assert "0 of 3 cases done" in answer.out
    assert keys(out) == [], "neither a timeout, which it was not, nor a case after it"
