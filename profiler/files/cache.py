"""What can be made again, kept on disk: answers, recordings, cuDNN's plans. A file each, in a folder for each kind.

An entry begins with a digest of its kind, its name and its content. One that was damaged, cut or renamed does not carry its
own digest: it is as good as none, and is removed. Folders and entries are this user's alone; what belongs to another user,
or what others may write, is never read. Of each kind the latest used are kept. `LATENTMETER_CACHE=off`: nothing is touched.
"""

import hashlib
import json
import logging
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from profiler.files.paths import cache_folder
from profiler.files.write import warn_once, write_atomically

SCHEMA = 1  # raised where the form of an entry changes: older ones are then as good as none
MOST_ENTRIES, MOST_BYTES = 4096, 256 << 20  # of a kind: three of them stay below 1 GiB
OFF = ("off", "0", "no", "false")
DIGEST_BYTES = hashlib.sha256().digest_size

logger = logging.getLogger(__name__)
_LEFT_ALONE: ContextVar[bool] = ContextVar("_LEFT_ALONE", default=False)


def digest(data: Any, digits: int = 12) -> str:
    """Hex digits over what JSON can say of whatever decides an entry: equal ones mean the same."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:digits]


def is_on() -> bool:
    """Whether the disk is used."""
    return os.environ.get("LATENTMETER_CACHE", "on").lower() not in OFF and not _LEFT_ALONE.get()


@contextmanager
def left_alone(asked: bool = True) -> Iterator[None]:
    """Within, where it is `asked`, nothing is read or kept, as with `LATENTMETER_CACHE=off`."""
    token = _LEFT_ALONE.set(asked or _LEFT_ALONE.get())
    try:
        yield
    finally:
        _LEFT_ALONE.reset(token)


def keep(kind: str, name: str, data: Any) -> Path:
    """Keep `data`, which JSON can say; returns the entry's file. Raises OSError, also where the cache is off."""
    if not is_on():
        raise OSError("the cache is off")
    path = _folder(kind, make=True) / name
    body = zlib.compress(json.dumps(data, separators=(",", ":")).encode(), 1)
    write_atomically(path, _digest(path, body) + body, mode=0o600)
    _evict(path.parent)
    return path


def find(kind: str, name: str) -> Any:
    """What was kept under a name; None where nothing was, or nothing that can be trusted."""
    return next((data for _, data in find_all(kind, name)), None)


def find_all(kind: str, pattern: str) -> Iterator[tuple[Path, Any]]:
    """Each entry whose name matches the shell pattern: its file, and what was kept; in the order of the names."""
    if not is_on():
        return
    try:
        paths = sorted(_folder(kind).glob(pattern))
    except OSError as error:
        logger.debug("nothing is kept: %s", error)
        return
    for path in paths:
        if (body := _trusted(path)) is not None:
            yield path, json.loads(zlib.decompress(body))


def clear(kind: str) -> int:
    """Remove all of a kind; returns how many entries that were."""
    try:
        paths = [path for path in _folder(kind).iterdir() if path.is_file()]
    except OSError:
        return 0
    for path in paths:
        _remove(path)
    return sum(not path.exists() for path in paths)


def _folder(kind: str, *, make: bool = False) -> Path:
    """The folder of a kind, this user's alone. Raises OSError where there is none, or it is another's."""
    top = cache_folder()
    for folder in (top, top / kind):
        if make:
            top.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.geteuid():
            warn_once("%s is not used: it belongs to another user", folder)
            raise PermissionError(f"{folder} belongs to another user")
        if status.st_mode & 0o077:
            with suppress(OSError):  # a read-only disk: each entry is looked at anyway
                folder.chmod(0o700)
    return folder


def _trusted(path: Path) -> bytes | None:
    """The content of an entry that this user wrote and that is whole, else None; one that is damaged is removed."""
    try:
        status = path.lstat()  # of a link itself, which is no entry
        if status.st_uid != os.geteuid() or (stat.S_ISREG(status.st_mode) and status.st_mode & 0o022):
            warn_once("%s is not used: another user owns it or may write it", path)
            return None
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) and status.st_size <= MOST_BYTES else b""
    except OSError as error:
        logger.info("%s cannot be read: %s", path, error)
        return None
    if content[:DIGEST_BYTES] == _digest(path, content[DIGEST_BYTES:]):
        with suppress(OSError):  # a read-only disk
            os.utime(path)  # the latest used are kept
        return content[DIGEST_BYTES:]
    logger.info("%s is damaged, and removed", path)
    _remove(path)
    return None


def _digest(path: Path, body: bytes) -> bytes:
    return hashlib.sha256(f"{SCHEMA}\n{path.parent.name}\n{path.name}\n".encode() + body).digest()


def _evict(folder: Path) -> None:
    """Remove what was used longest ago, until the rest is within the bounds."""
    with suppress(OSError):  # what another process removes meanwhile; the next entry comes here again
        found = [(path.stat().st_mtime_ns, path.stat().st_size, path) for path in map(Path, os.scandir(folder))]
        total = 0
        for place, (_, size, path) in enumerate(sorted(found, reverse=True)):
            total += size
            if place >= MOST_ENTRIES or total > MOST_BYTES:
                _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
