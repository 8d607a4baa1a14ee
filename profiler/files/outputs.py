"""Checks the place of an answer before the work that makes it: half a minute of work is not lost to a misspelt folder."""

from pathlib import Path
from tempfile import TemporaryFile

from profiler.errors import UserError


def check_file(path: Path, *, force: bool) -> None:
    """Raise UserError where `path` cannot become a file, or is one and `force` is not given."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is {'a folder' if path.is_dir() else 'no ordinary file'}; name a file")
        if path.exists() and not force:
            raise UserError(f"{path}: exists already; --force replaces it")
        _try_writing(path.parent)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; choose another place") from error


def check_folder(path: Path) -> None:
    """Raise UserError where `path` cannot become or be a folder with files of ours."""
    try:
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: is a file; name a folder")
        _try_writing(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written to: {error.strerror}; choose another place") from error


def _try_writing(folder: Path) -> None:
    """Make a file without a name where `folder` is, or is to be; it is gone at once. Raises OSError."""
    with TemporaryFile(dir=next((place for place in (folder, *folder.parents) if place.exists()), folder)):
        return
