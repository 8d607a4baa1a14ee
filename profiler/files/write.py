"""Writes files whole or not at all, so that whoever dies while writing leaves the old file, never half a new one.

The place of an answer is checked before the work that makes it: half a minute of work is not lost to a misspelt folder.
"""

import logging
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Literal

from profiler.errors import UserError

warn_once = cache(logging.getLogger(__name__).warning)  # a command reads the same folder several times


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


def write_atomically(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Replace `path` by `content`, text as UTF-8; makes its folder where there is none. Raises OSError, and leaves nothing.

    Half a surrogate pair, which JSON can say and UTF-8 cannot, is written as its escape. The file's mode is `mode` less the
    umask. Two writers at once each write a file of their own; the last one stands.
    """
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}-{os.urandom(4).hex()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb", buffering=0) as stream:
            write_all(stream, content.encode(errors="backslashreplace") if isinstance(content, str) else content)
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # a full disk does not say which file it had no room for
        raise


def write_all(stream: IO[bytes], data: bytes) -> None:
    """All of `data`, on disk: a name that is given to it afterwards never stands for less. `stream` has no buffer.

    A disk that fills takes a part of it, and refuses the next.
    """
    left = memoryview(data)
    while left:
        left = left[stream.write(left) :]
    os.fsync(stream.fileno())
