"""Writes files whole or not at all, so that whoever dies while writing leaves the old file, never half a new one."""

import logging
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

warn_once = cache(logging.getLogger(__name__).warning)  # a command reads the same folder several times


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
