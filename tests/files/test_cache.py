"""The cache on disk is trusted no more than any file: what is not whole, or not ours, is as good as none."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from profiler.files import cache
from profiler.files.cache import find, find_all, keep, left_alone
from profiler.files.paths import cache_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LATENTMETER_CACHE", "on")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "latentmeter"


def test_what_was_kept_is_found_under_its_own_name_alone() -> None:
    keep("plans", "a-1", {"x": [1, None]})
    keep("plans", "a-2", {})
    assert (find("plans", "a-1"), find("plans", "a"), find("answers", "a-1")) == ({"x": [1, None]}, None, None)
    assert [data for _, data in find_all("plans", "a-*")] == [{"x": [1, None]}, {}]


def test_a_renamed_entry_is_none_and_is_removed() -> None:
    """An entry of another question is whole, and would be a wrong answer."""
    path = keep("plans", "a", 1)
    keep("answers", "a", 3)
    (path.parent.parent / "answers" / "a").write_bytes(path.read_bytes())
    path.rename(path.with_name("b"))
    assert (find("plans", "b"), find("answers", "a")) == (None, None)
    assert not path.with_name("b").exists()


def test_another_schema_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    keep("plans", "a", 1)
    monkeypatch.setattr(cache, "SCHEMA", cache.SCHEMA + 1)
    assert find("plans", "a") is None


def place_folder(path: Path) -> None:
    path.mkdir()


def place_pipe(path: Path) -> None:
    os.mkfifo(path)


def place_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def place_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize("place", [place_folder, place_pipe, place_link, place_nothing])
def test_what_is_no_file_is_no_entry(place: Callable[[Path], None]) -> None:
    path = keep("plans", "a", 1)
    path.unlink()
    place(path)
    assert find("plans", "a") is None


def test_damage_is_said_once_and_gone(caplog: pytest.LogCaptureFixture) -> None:
    path = keep("plans", "a", 1)
    path.write_bytes(b"\xff garbage")
    with caplog.at_level(logging.INFO, "profiler"):
        assert find("plans", "a") is None
        assert find("plans", "a") is None
    assert [record.message for record in caplog.records] == [f"{path} is damaged, and removed"]
    keep("plans", "a", 2)
    assert find("plans", "a") == 2


def test_folders_and_entries_are_the_users_alone(disk: Path) -> None:
    old = os.umask(0o002)  # as Debian and others have it: what is made may be written by the group
    try:
        path = keep("plans", "a", 1)
    finally:
        os.umask(old)
    assert [f"{p.stat().st_mode & 0o777:o}" for p in (disk, disk / "plans", path)] == ["700", "700", "600"]
    (disk / "plans").chmod(0o777)  # made by hand, or by an older version
    assert find("plans", "a") == 1
    assert (disk / "plans").stat().st_mode & 0o777 == 0o700


def test_an_entry_that_others_may_write_is_left_alone_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    path = keep("plans", "a", 1)
    path.chmod(0o664)
    assert find("plans", "a") is None
    assert caplog.messages == [f"{path} is not used: another user owns it or may write it"]
    assert path.exists()


def test_another_users_cache_is_left_alone_with_a_word(
    disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as with `sudo`, or below a folder that everybody may write."""
    keep("plans", "a", 1)
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert find("plans", "a") is None
    with pytest.raises(OSError, match="belongs to another user"):
        keep("plans", "a", 2)
    assert caplog.messages == [f"{disk} is not used: it belongs to another user"]
    monkeypatch.setattr(os, "geteuid", lambda: mine)
    assert find("plans", "a") == 1


@pytest.mark.parametrize("bound", ["MOST_ENTRIES", "MOST_BYTES"])
def test_the_latest_used_are_kept(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size = keep("plans", "a", 0).stat().st_size
    monkeypatch.setattr(cache, bound, {"MOST_ENTRIES": 3, "MOST_BYTES": 3 * size}[bound])
    for number, name in enumerate("abc"):
        os.utime(keep("plans", name, 0), (number, number))
    assert find("plans", "a") == 0  # which makes it the latest used
    path = keep("plans", "d", 0)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["a", "c", "d"]


def test_what_a_dying_writer_left_goes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_ENTRIES", 1)
    folder = keep("plans", "a", 0).parent
    (folder / ".a.1-2.new").write_bytes(b"half")
    os.utime(folder / ".a.1-2.new", (0, 0))
    keep("plans", "a", 0)
    assert [entry.name for entry in folder.iterdir()] == ["a"]


@pytest.mark.parametrize("text", ["", "cache"])
def test_an_empty_or_relative_cache_home_is_unset(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("XDG_CACHE_HOME", text)
    assert cache_folder() == tmp_path / "me" / ".cache" / "latentmeter"


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user may have none: neither a variable nor a line in the list of users."""

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    keep("plans", "a", 1)
    assert find("plans", "a") == 1  # XDG_CACHE_HOME says where
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert find("plans", "a") is None
    with pytest.raises(OSError, match="HOME or XDG_CACHE_HOME"):
        keep("plans", "a", 2)


@pytest.mark.parametrize("off", ["off", "OFF", "0", "no", "false"])
def test_switched_off_nothing_is_read_or_kept(off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = keep("plans", "a", 1)
    monkeypatch.setenv("LATENTMETER_CACHE", off)
    assert find("plans", "a") is None
    monkeypatch.setenv("LATENTMETER_CACHE", "on")
    with left_alone():
        assert find("plans", "a") is None
        with pytest.raises(OSError, match="off"):
            keep("plans", "b", 1)
    assert find("plans", "a") == 1
    assert [*path.parent.iterdir()] == [path]


WRITER = """
import sys
from profiler.files.cache import find, keep
for n in range(80):
    for name in "ab":
        keep("answers", name, [sys.argv[1]] * 5000)
        found = find("answers", name)
        assert found is not None and len(found) == 5000 and len({*found}) == 1, found
"""


def test_two_writers_at_once_neither_fails_and_entries_are_whole(disk: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, name], cwd=ROOT, stderr=subprocess.PIPE) for name in "xy"
    ]
    errors = [writer.communicate()[1].decode() for writer in writers]
    assert (errors, [writer.returncode for writer in writers]) == (["", ""], [0, 0])
    assert {json.dumps(find("answers", name)) for name in "ab"} <= {json.dumps([name] * 5000) for name in "xy"}
    assert sorted(path.name for path in (disk / "answers").iterdir()) == ["a", "b"]
