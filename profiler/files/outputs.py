"""Checks the place of an answer before the work that makes it: half a minute of work is not lost to a misspelt folder."""

from pathlib import Path
from tempfile import TemporaryFile
from typing import Literal

from profiler.errors import UserError


def check_output(path: Path, kind: Literal["file", "folder"], *, force: bool = True) -> None:
    """Raise UserError where `path` is or can be no `kind` that we write to; without `force` also where it exists."""
    try:
        if path.exists() and not (path.is_dir() if kind == "folder" else path.is_file()):
            raise UserError(f"{path}: is no {'folder' if kind == 'folder' else 'ordinary file'}; choose another place")
        if path.exists() and not force:
            raise UserError(f"{path}: exists already; --force replaces it")
        folder = path if kind == "folder" else path.parent
        with TemporaryFile(dir=next((place for place in (folder, *folder.parents) if place.exists()), folder)):
            return  # a file without a name, where the folder is or is to be
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; choose another place") from error
