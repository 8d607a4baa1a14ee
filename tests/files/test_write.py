"""A file is written whole or not at all."""

from pathlib import Path

import pytest

from profiler.files.write import write_atomically


def test_text_that_utf_8_cannot_say_is_written_as_its_escape(tmp_path: Path) -> None:
    """A record's JSON may hold half a surrogate pair, and its page is to be written nevertheless."""
    write_atomically(tmp_path / "a", "ä\ud800")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "ä\\ud800"


def test_what_cannot_be_written_leaves_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "a", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_long_name_is_no_hindrance(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("a" * 255), "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a" * 255]
