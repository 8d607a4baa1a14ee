"""A folder for as long as it is needed. One that a killed process left is swept by the next that needs one."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = ".latentmeter-scratch-"  # no name that a person would give to a folder: what is swept is lost


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, gone afterwards. This process holds a lock on it, which the kernel drops at its death."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, no folder, or held
            _sweep(left)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        held = os.open(name, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(held)


def _sweep(folder: Path) -> None:
    """Remove a folder of ours that nobody holds. Raises OSError for any other."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_uid == os.geteuid():
            shutil.rmtree(folder)
    finally:
        os.close(handle)
