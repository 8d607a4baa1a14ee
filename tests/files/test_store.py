"""A run's folder: what was written is read again, whatever moment a process died at."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.data.memory import Memory, Terms
from profiler.data.records import SCHEMA, Estimate, Failure, Measurement, Reading, Record, Status
from profiler.data.stack import Stack
from profiler.data.workload import STAGES, MemoryOptions, Workload
from profiler.errors import UserError
from profiler.files.store import RunHeader, RunStore
from tests.report import records_factory as factory

ROOT = Path(__file__).parents[2]
HEADER = RunHeader(
    title="t", sweep={"name": "s"}, command="latentmeter run s", created="now", fingerprint="f", version="0"
)
seconds, sizes = st.floats(0, 1e9), st.integers(1, 10_000)
workloads = st.builds(
    Workload,
    model=st.text(min_size=1),
    stage=st.sampled_from(STAGES),
    frames=sizes,
    height=sizes,
    width=sizes,
    options=st.builds(MemoryOptions, tiling=st.just(True), tile=st.none() | st.tuples(sizes, sizes)),
)
stacks = st.builds(
    Stack,
    gpu=st.none() | st.text(),
    capability=st.none() | st.tuples(st.integers(0, 20), st.integers(0, 9)),
    device_total_bytes=st.none() | st.integers(0),
    settings=st.dictionaries(st.text(), st.text(), max_size=2),
)
memories = st.from_type(Memory)
readings = st.builds(Reading, seconds=st.none() | seconds)  # not nan, which is unlike itself
numbers: dict[str, Any] = {"workload": workloads, "stack": stacks, "baseline": memories, "peak": memories}
estimates = st.builds(
    Estimate, **numbers, terms=st.from_type(Terms), seconds=seconds, notes=st.dictionaries(st.text(), st.text())
)
measurements = st.builds(Measurement, **numbers, readings=st.just(()))
records = st.builds(
    Record,
    key=st.sampled_from(["a", "b/c", "ключ\u2028"]),
    workload=workloads,
    status=st.sampled_from(Status.__args__),
    seconds=seconds,
    stack=st.none() | stacks,
    estimate=st.none() | estimates,
    measurement=st.none() | measurements,
    failure=st.none() | st.builds(Failure, readings=st.lists(readings, max_size=2).map(tuple)),
    tolerance=st.none() | seconds,
    notes=st.dictionaries(st.text(), st.text(), max_size=2),
    schema=st.just(SCHEMA),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A run that was begun, its folder held."""
    found = RunStore(tmp_path / "run")
    with found.writing():
        found.begin(HEADER)
        yield found


def as_text(records: Sequence[Record]) -> list[str]:
    """JSON text: what a list of JSON was, a tuple or a list, is the same there."""
    return [json.dumps(asdict(record)) for record in records]


def test_every_kind_of_record_comes_back_as_it_was(store: RunStore) -> None:
    for record in factory.sample():
        store.append(record)
    assert as_text(store.records()) == as_text(factory.sample())
    assert len(store.records_path.read_text().splitlines()) == len(factory.sample())


def test_a_report_is_written_where_the_locale_knows_ascii_alone(store: RunStore) -> None:
    for record in factory.sample():
        store.append(record)
    ascii_only = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "profiler", "report", str(store.directory)]
    done = subprocess.run(command, env=ascii_only, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\u00d7" in (store.directory / "report.html").read_text(encoding="utf-8")


@settings(max_examples=60, deadline=None)
@given(st.lists(records, max_size=5))
def test_any_records_come_back_the_last_of_each_key(written: list[Record]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder))
        for record in written:
            store.append(record)
        assert store.records() == list({record.key: record for record in written}.values())


def test_the_last_record_of_a_key_counts_in_its_first_place(store: RunStore) -> None:
    first, second = factory.exact(), factory.over()
    for record in (replace(first, status="timeout"), second, first):
        store.append(record)
    assert [(record.key, record.status) for record in store.records()] == [(first.key, "ok"), (second.key, "ok")]
    assert len(store.records_path.read_text().splitlines()) == 3


def test_a_record_is_on_disk_before_append_returns(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    store.append(factory.exact())
    assert synced == [store.records_path.resolve()]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_line_torn_anywhere_is_cut_and_nothing_else_is_lost(data: st.DataObject) -> None:
    sample = factory.sample()[:3]
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder))
        for record in sample:
            store.append(record)
        whole = store.records_path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)), "bytes that reached the disk")
        store.records_path.write_bytes(whole[:cut])

        kept = whole[:cut].count(b"\n")
        assert as_text(store.records()) == as_text(sample[:kept])
        again = factory.oom()
        store.append(again)
        assert as_text(store.records()) == as_text([*sample[:kept], again])
        lines = store.records_path.read_bytes().splitlines(keepends=True)
        assert lines[:-1] == whole.splitlines(keepends=True)[:kept]


def test_a_record_of_a_newer_program_is_refused(store: RunStore) -> None:
    store.append(replace(factory.exact(), schema=SCHEMA + 1))
    with pytest.raises(
        UserError, match=rf"records\.jsonl, line 1: written by a newer latentmeter \(schema {SCHEMA + 1}, .*: upgrade"
    ):
        store.records()


def test_a_header_of_a_newer_program_is_refused(store: RunStore) -> None:
    store.begin(replace(HEADER, schema=SCHEMA + 1))
    with pytest.raises(UserError, match=r"run\.json: written by a newer latentmeter .*: upgrade latentmeter"):
        store.header()


def test_a_header_comes_back_as_it_was(store: RunStore) -> None:
    assert store.header() == HEADER


@pytest.mark.parametrize("text", [b"{", b"[]", b"{}", b"\xff"])
def test_a_damaged_header_is_an_error(store: RunStore, text: bytes) -> None:
    store.header_path.write_bytes(text)
    with pytest.raises(UserError, match=r"run\.json: not a run header"):
        store.header()


def test_a_folder_without_a_run_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run here \(no run\.json\); `latentmeter run CONFIG --out` makes one"):
        RunStore(tmp_path).header()


def test_a_second_writer_is_refused_while_the_first_holds_the_folder(tmp_path: Path) -> None:
    first, second = RunStore(tmp_path), RunStore(tmp_path)
    with first.writing(), pytest.raises(UserError, match="another run is writing here"), second.writing():
        pytest.fail("two writers")
    with second.writing():
        pass
    with pytest.raises(ZeroDivisionError), first.writing():
        raise ZeroDivisionError
    with second.writing():
        pass


def test_the_folder_for_logs_is_there_even_if_somebody_removed_it(store: RunStore, tmp_path: Path) -> None:
    store.logs.rmdir()
    with RunStore(tmp_path / "run2").writing():
        assert (tmp_path / "run2" / "logs").is_dir()


@pytest.mark.parametrize("name", ["records.jsonl", "run.json"])
def test_a_file_without_an_end_is_refused(tmp_path: Path, name: str) -> None:
    RunStore(tmp_path).begin(HEADER)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=f"{name}: is no ordinary file"):
        RunStore(tmp_path).header(), RunStore(tmp_path).records()
