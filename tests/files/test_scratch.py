"""A folder for a moment, swept by the next process where its own was killed."""

import os
import signal
import tempfile
from pathlib import Path

import pytest

from profiler.files.scratch import PREFIX, scratch_folder


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_folder_is_gone_afterwards(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch_folder() as folder:
        (folder / "file").touch()
        raise ZeroDivisionError
    assert [*tmp_path.iterdir()] == []


def test_a_killed_process_leaves_a_folder_that_the_next_one_sweeps(tmp_path: Path) -> None:
    strange, runs = tmp_path / f"{PREFIX}file", tmp_path / "latentmeter-runs"
    strange.touch()
    runs.mkdir()
    pid = os.fork()
    if pid == 0:
        with scratch_folder() as folder:
            (folder / "file").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    (left,) = {*tmp_path.iterdir()} - {strange, runs}
    with scratch_folder() as first, scratch_folder() as second:
        assert {*tmp_path.iterdir()} == {strange, runs, first, second}, "one that is in use stays"
        assert not left.exists()
