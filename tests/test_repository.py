"""What is under version control stays small: the whole of it travels to a lab machine beside a bundle of packages."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_BYTES = 36 << 20


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """The tracked files that are there, relative to the top; skips where there is no checkout (a source archive)."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in names.split("\0") if name and (ROOT / name).is_file()]


def test_tracked_files_are_small_together(tracked: list[Path]) -> None:
    assert tracked
    assert sum((ROOT / path).stat().st_size for path in tracked) < MOST_BYTES


def test_pages_of_the_references_are_made_on_demand(tracked: list[Path]) -> None:
    pages = [path for path in tracked if path.suffix == ".html" and path.is_relative_to("results/reference")]
    assert pages == [], "`latentmeter report DIR` makes them"


def test_events_are_compressed(tracked: list[Path]) -> None:
    events = [path for path in tracked if path.parent.name in ("events", "streams")]
    assert events
    assert [path for path in events if path.suffix != ".gz"] == []
