"""A run's folder: `run.json` (what was asked), `records.jsonl` (append-only, a line a case), `events/`, `logs/`, reports.

A record is on disk before the next case starts. A process that dies while it writes leaves a line without an end; it is
cut off when the run goes on, and its case is done again. The last record of a key is the one that counts. A line that is
no record is left out with a warning; `repair` sets it aside in `records.damaged.jsonl`.

A run that replaces another begins in a folder inside, `replacement.new`, and takes its place when its first record is on
disk. First of all the old header goes: records without a header are nobody's, and no moment gives one run's to the other.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shlex import quote
from typing import IO, Any, Literal

from filelock import FileLock, Timeout

from profiler.data.records import SCHEMA, Record
from profiler.data.workload import Workload
from profiler.errors import UserError
from profiler.files.load import DamageError, damage_told, read_record
from profiler.files.write import check_output, warn_once, write_all, write_atomically

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunHeader:
    """What a folder holds: the sweep as it was read, the command, when it began, and the stack it was begun on."""

    title: str
    sweep: dict[str, Any]
    command: str
    created: str
    fingerprint: str
    version: str
    schema: int = field(default=SCHEMA)


class RunStore:
    """The files of one run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.records_path = directory / "records.jsonl"
        self.damaged_path = directory / "records.damaged.jsonl"
        self.header_path = directory / "run.json"
        self.logs = directory / "logs"
        self.events = directory / "events"
        self._beside = directory / "replacement.new"
        self.replacement: RunStore | None = None  # the run that takes this one's place with its first record

    @property
    def empty(self) -> bool:
        """Whether nothing of a run is here."""
        return not (self.header_path.exists() or self.records_path.exists())

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the folder for this process. Raises UserError where another run writes to it, or where nobody can."""
        check_output(self.directory, "folder")
        for folder in (self.logs, self.events):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(self.directory / ".lock").acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                f"{self.directory}: another run is writing here; wait for it or choose another --out"
            ) from error
        with lock:
            self._sweep()
            yield

    def begin(self, header: RunHeader) -> None:
        write_atomically(self.header_path, json.dumps(asdict(header), indent=2, allow_nan=False) + "\n")

    def replace_by(self, header: RunHeader) -> None:
        """Begin a run in the place of the one that is here, which stays until the first new record is on disk."""
        self.replacement = RunStore(self._beside)
        self.replacement.events.mkdir(parents=True)
        self.replacement.begin(header)

    def header(self) -> RunHeader:
        """The header. Raises UserError where there is none, DamageError where it cannot be read."""
        if self.empty:
            raise UserError(f"{self.directory}: no run here (no run.json); `latentmeter run CONFIG --out` makes one")
        place, what = str(self.header_path), "a run header"
        with damage_told(place, what):
            return read_record(RunHeader, _bytes_of(self.header_path), place, what, SCHEMA)

    def header_or_none(self) -> RunHeader | None:
        """The header; None, with a warning, where it is damaged or gone. Raises UserError where no run is."""
        try:
            return self.header()
        except DamageError as error:
            warn_once(
                f"{_in_a_line(error)}; `latentmeter run CONFIG --out {quote(str(self.directory))} --repair` writes it again"
            )
            return None

    def event_path(self, workload: Workload, side: Literal["measured", "estimated"]) -> Path:
        """The file of one side's allocator events of a case."""
        return (self.replacement or self).events / f"{file_stem(workload)}.{side}.json.gz"

    def append(self, record: Record) -> None:
        """Put one record on disk, whole, before returning; whatever interrupts that leaves nothing of it.

        Raises ValueError for a figure that is no number, OSError where the disk does not take it.
        """
        if self.replacement is not None:
            self.replacement.append(record)
            self._take_place(self.replacement)
            return
        line = json.dumps(asdict(record), separators=(",", ":"), allow_nan=False).encode() + b"\n"
        with self.records_path.open("ab+", buffering=0) as stream:
            end = _end_of_lines(stream)
            stream.truncate(end)  # what a process that died while it wrote left of a line
            try:
                write_all(stream, line)
            except BaseException:
                stream.truncate(end)
                raise

    def records(self) -> list[Record]:
        """The last record of every key, in the order in which keys first came; damaged lines are left out with a warning."""
        if self.replacement is not None:
            return []
        lines = [record for _, record in self._lines()]
        if damage := [record for record in lines if isinstance(record, DamageError)]:
            first, more = _in_a_line(damage[0]), f", and {len(damage) - 1} more" if damage[1:] else ""
            warn_once(
                f"{first}{more}; left out: `latentmeter report {quote(str(self.directory))} --repair` sets "
                "damaged lines aside, the run's own command does their cases again"
            )
        return list({record.key: record for record in lines if isinstance(record, Record)}.values())

    def repair(self, keep: Callable[[Record], bool] = lambda _: True) -> None:
        """Set lines that are damaged, or that `keep` refuses, aside in `records.damaged.jsonl`; says how many."""
        lines = list(self._lines())
        whole = [line for line, record in lines if isinstance(record, Record) and keep(record)]
        if aside := [line for line, record in lines if not (isinstance(record, Record) and keep(record))]:
            with self.damaged_path.open("ab", buffering=0) as stream:
                write_all(stream, b"".join(aside))
            write_atomically(self.records_path, b"".join(whole))
        logger.warning(
            "%s: %d of %d lines set aside%s", self.records_path, len(aside), len(lines),
            f" in {self.damaged_path}" if aside else ": none is damaged",
        )  # fmt: skip

    def _lines(self) -> Iterator[tuple[bytes, Record | DamageError]]:
        """Each whole line as it stands, and its record or what is wrong with it. Raises UserError for a newer program's."""
        data = _bytes_of(self.records_path) if self.records_path.exists() else b""
        for number, line in enumerate(data.split(b"\n")[:-1], start=1):
            try:
                place = f"{self.records_path}, line {number}"
                yield line + b"\n", read_record(Record, line, place, "a record", SCHEMA)
            except DamageError as error:
                yield line + b"\n", error

    def _take_place(self, new: "RunStore") -> None:
        self.header_path.unlink(missing_ok=True)
        new.records_path.replace(self.records_path)
        shutil.rmtree(self.events, ignore_errors=True)
        new.events.replace(self.events)
        new.header_path.replace(self.header_path)
        new.directory.rmdir()
        self.replacement = None

    def _sweep(self) -> None:
        """Remove what a process that died here had prepared. Only for who holds the folder."""
        shutil.rmtree(self._beside, ignore_errors=True)
        for folder in (self.directory, self.events):
            for path in folder.glob(".*.new"):
                path.unlink(missing_ok=True)


def _bytes_of(path: Path) -> bytes:
    """What is in a file. Raises UserError for a device or a pipe, which has no end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path}: is no ordinary file")
    return path.read_bytes()


def _end_of_lines(stream: IO[bytes]) -> int:
    """Where the last whole line ends. The file is read only where something follows it."""
    end = stream.seek(0, os.SEEK_END)
    stream.seek(max(end - 1, 0))
    if stream.read(1) in (b"", b"\n"):
        return end
    stream.seek(0)
    return stream.read().rfind(b"\n") + 1


def _in_a_line(error: DamageError) -> str:
    return " ".join(str(error).split())


def file_stem(workload: Workload) -> str:
    """A file name for a case: file systems end names at 255 bytes, and the end of a key is what differs."""
    return workload.slug[-200:]


def open_run(directory: str | Path) -> RunStore:
    """The store of a run that is there. Raises UserError where there is none."""
    store = RunStore(Path(directory))
    store.header_or_none()
    return store
