"""Faults of a run's folder, injected for real: damage, a full disk, death at every step of writing, several writers."""

import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from profiler.errors import UserError
from profiler.files import store as module
from profiler.files import write
from profiler.files.load import DamageError
from profiler.files.store import RunStore
from tests.files.test_store import HEADER, as_text
from tests.report import records_factory as factory

FIRST, SECOND, THIRD = factory.sample()[:3]
OTHER = replace(HEADER, title="other")


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A run with two records and an event file of the first."""
    found = RunStore(tmp_path / "run")
    with found.writing():
        found.begin(HEADER)
        for record in (FIRST, SECOND):
            found.append(record)
        found.event_path(FIRST.workload, "measured").write_bytes(b"old")
    return found


def put_line(store: RunStore, line: bytes) -> None:
    with store.records_path.open("ab") as stream:
        stream.write(line + b"\n")


DAMAGED = {
    "brace": (b"{", "Expecting property name"),
    "empty": (b"", "Expecting value"),
    "zeros": (b"\0" * 64, "Expecting value"),
    "no UTF-8": (b"\xff\xfe", "Expecting value"),
    "no object": (b"[]", "top: "),
    "another object": (b'{"schema": 1}', "key: Field required workload: Field required"),
    "long number": (b"1" * 5000, "4300"),
    "deep": (b"[" * 100_000, "recursion"),
}
NUMBERS = {"nan": b"NaN", "inf": b"Infinity", "minus": b"-Infinity", "overflow": b"1e999"}


@pytest.mark.parametrize("kind", [*DAMAGED, *NUMBERS])
def test_a_damaged_line_hides_no_other_and_is_set_aside_when_asked(
    store: RunStore, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    line, message = DAMAGED.get(kind, (b"", "no number"))
    if kind in NUMBERS:
        line = json.dumps(asdict(THIRD) | {"seconds": 7.125}).encode().replace(b"7.125", NUMBERS[kind])
    put_line(store, line)
    store.append(THIRD)
    assert as_text(store.records()) == as_text([FIRST, SECOND, THIRD])
    assert f"{store.records_path}, line 3: not a record: " in caplog.text
    assert message in caplog.text
    assert f"`latentmeter report {store.directory} --repair` sets damaged lines aside" in caplog.text

    caplog.clear()
    with store.writing():
        store.repair()
    assert f"1 of 4 lines set aside in {store.damaged_path}" in caplog.text
    assert store.damaged_path.read_bytes() == line + b"\n"
    caplog.clear()
    assert as_text(store.records()) == as_text([FIRST, SECOND, THIRD])
    assert caplog.text == ""


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_figure_that_is_no_number_is_not_written(store: RunStore, number: float) -> None:
    before = store.records_path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        store.append(replace(THIRD, seconds=number))
    assert store.records_path.read_bytes() == before


@pytest.mark.parametrize("text", [None, b"", b"{", b"[]", b"\xff"])
def test_a_damaged_header_hides_no_record(
    store: RunStore, text: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    store.header_path.unlink() if text is None else store.header_path.write_bytes(text)
    with pytest.raises(DamageError, match=r"run\.json"):
        store.header()
    assert store.header_or_none() is None
    assert f"`latentmeter run CONFIG --out {store.directory} --repair` writes it again" in caplog.text
    assert len(store.records()) == 2


def bytes_read() -> int:
    """That this process took from files so far, whatever way it did (proc_pid_io(5))."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_an_append_reads_the_same_however_many_records_there_are(tmp_path: Path) -> None:
    line = json.dumps(asdict(FIRST)).encode() + b"\n"
    read = {}
    for count in (10, 2000):
        store = RunStore(tmp_path)
        store.records_path.write_bytes(line * count)
        store.append(SECOND)  # imports
        before = bytes_read()
        store.append(THIRD)
        read[count] = bytes_read() - before
        assert store.records_path.read_bytes().count(b"\n") == count + 2
    assert abs(read[2000] - read[10]) < 100 < len(line)


READING = ("_lines", "records", "<genexpr>", "<listcomp>")  # of the store: they write nothing


def in_a_child(action: Callable[[], Any]) -> int:
    """Run `action` in a copy of this process; what waitpid says: 0, or the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]


def in_pieces(stream: Any, data: bytes) -> None:
    """Written as a disk under load does it: a part, then the rest."""
    half = len(data) // 2
    stream.write(data[:half])
    stream.write(data[half:])  # no fsync: a killed process loses nothing that the kernel has


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def each_death(action: Callable[[], Any]) -> Any:
    """Run `action` until it is through, each time in a new process that is killed one line of code later; yields between."""

    def kill_at(step: int) -> None:
        left = step

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal left
            if (
                frame.f_code.co_filename not in (module.__file__, write.__file__, __file__)
                or frame.f_code.co_name in READING
            ):
                return None
            left -= event == "line"
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        module.write_all = write.write_all = in_pieces
        sys.settrace(trace)
        action()

    step = 1
    while in_a_child(lambda: kill_at(step)):  # noqa: B023
        yield step
        step += 1
    assert step > 5, "nothing was killed"


@pytest.mark.usefixtures("_quick")
def test_a_run_killed_at_any_step_of_an_append_keeps_every_record(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    before = store.records_path.read_bytes()

    def append() -> None:
        with store.writing():
            store.append(THIRD)

    for _ in each_death(append):
        found = as_text(store.records())
        assert found in (as_text([FIRST, SECOND]), as_text([FIRST, SECOND, THIRD]))
        with store.writing():  # the next run is not locked out, and cuts off what was left
            store.append(FIRST)
        assert store.records_path.read_bytes().startswith(before)
        assert as_text(store.records()) == found
        store.records_path.write_bytes(before)
    assert caplog.text == ""


@pytest.mark.usefixtures("_quick")
def test_a_run_killed_at_any_step_of_replacing_another_mixes_nothing(store: RunStore) -> None:
    before = {path: path.read_bytes() for path in (store.records_path, store.header_path)}
    old_event = store.event_path(FIRST.workload, "measured")
    seen = set()

    def replace_it() -> None:
        new = RunStore(store.directory)
        with new.writing():
            new.replace_by(OTHER)
            new.event_path(FIRST.workload, "measured").write_bytes(b"new")
            new.append(replace(FIRST, seconds=1.25))

    for _ in each_death(replace_it):
        header = store.header() if store.header_path.exists() else None
        records = store.records()
        whose = "new" if records[0].seconds == 1.25 else "old"
        seen.add((header.title if header else None, whose))
        assert len(records) == (1 if whose == "new" else 2)
        if header == HEADER:
            assert (whose, old_event.read_bytes()) == ("old", b"old")
        elif header is not None:
            assert (header, whose, old_event.read_bytes()) == (OTHER, "new", b"new")
        with store.writing():
            assert not [*store.directory.glob("*.new")]
        for path, content in before.items():
            path.write_bytes(content)
        old_event.write_bytes(b"old")
    assert seen >= {("t", "old"), (None, "old"), (None, "new"), ("other", "new")}


@pytest.mark.usefixtures("_quick")
def test_a_repair_killed_at_any_step_loses_no_line(store: RunStore) -> None:
    put_line(store, b"garbage")
    put_line(store, b"")
    before = store.records_path.read_bytes()

    def repair() -> None:
        with store.writing():
            store.repair()

    for _ in each_death(repair):
        assert as_text(store.records()) == as_text([FIRST, SECOND])
        aside = store.damaged_path.read_bytes() if store.damaged_path.exists() else b""
        assert b"garbage\n\n" in store.records_path.read_bytes() or b"garbage\n\n" in aside
        store.records_path.write_bytes(before)
        store.damaged_path.unlink(missing_ok=True)


def test_a_disk_that_fills_in_the_middle_of_a_record_takes_nothing_of_it(store: RunStore) -> None:
    """The kernel's limit on a file's size: it takes what still fits, and refuses the next write, as a full disk does."""
    before = store.records_path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (0, 1, 100, 1000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                store.append(THIRD)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert store.records_path.read_bytes() == before
    store.append(THIRD)
    assert len(store.records()) == 3


def test_a_disk_that_fills_while_a_run_is_replaced_leaves_the_old_one(store: RunStore) -> None:
    before = store.records_path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with store.writing():
        store.replace_by(OTHER)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                store.append(THIRD)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert RunStore(store.directory).header() == HEADER
    assert store.records_path.read_bytes() == before
    assert store.directory.joinpath("events", store.event_path(FIRST.workload, "measured").name).read_bytes() == b"old"


def test_an_interrupt_in_the_middle_of_a_record_leaves_nothing_of_it(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.records_path.read_bytes()

    def interrupted(descriptor: int) -> None:
        assert len(store.records_path.read_bytes()) > len(before)
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.append(THIRD)
    assert store.records_path.read_bytes() == before


def test_several_writers_take_turns_and_lose_nothing(tmp_path: Path) -> None:
    store, writers, each = RunStore(tmp_path), 3, 8

    def write(number: int) -> None:
        for count in range(each):
            while True:
                try:
                    with store.writing():
                        store.append(replace(FIRST, key=f"{number}/{count}"))
                        break
                except UserError:
                    time.sleep(0.001)

    children = []
    for number in range(writers):
        pid = os.fork()
        if pid == 0:
            logging.disable()
            write(number)
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * writers
    found = {record.key for record in store.records()}
    assert found == {f"{number}/{count}" for number in range(writers) for count in range(each)}
    assert store.records_path.read_bytes().count(b"\n") == writers * each
