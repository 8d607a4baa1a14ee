"""A run's folder: `run.json` (what was asked), `records.jsonl` (append-only, a line a case), `events/`, `logs/`, reports.

A record is on disk before the next case starts. A process that dies while it writes leaves a line without an end; it is
cut off when the run goes on, and its case is done again. The last record of a key is the one that counts.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import ValidationError

from profiler.data.records import SCHEMA, Record, from_dict
from profiler.data.workload import Workload
from profiler.errors import UserError
from profiler.files.load import describe
from profiler.files.outputs import check_output
from profiler.files.write import write_atomically


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
        self.header_path = directory / "run.json"
        self.logs = directory / "logs"
        self.events = directory / "events"

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.header_path.exists()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the folder for this process. Raises UserError where it cannot be, or another run writes to it."""
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
            yield

    def begin(self, header: RunHeader) -> None:
        """Write the header; the folder must not hold a run yet."""
        write_atomically(self.header_path, json.dumps(asdict(header), indent=2) + "\n")

    def clear(self) -> None:
        """Forget the run that is here: records, then header. Killed in between, no old record counts for a new run."""
        for path in (self.records_path, *self.events.glob("*.json.gz"), self.header_path):
            path.unlink(missing_ok=True)

    def header(self) -> RunHeader:
        """The header. Raises UserError where there is none or it cannot be read."""
        try:
            text = self.header_path.read_bytes()
        except OSError as error:
            raise UserError(
                f"{self.directory}: no run here (no run.json); `latentmeter run CONFIG --out` makes one"
            ) from error
        header: RunHeader = _read(RunHeader, text, str(self.header_path), "a run header")
        return header

    def event_path(self, workload: Workload, side: Literal["measured", "estimated"]) -> Path:
        """The file of one side's allocator events of a case."""
        return self.events / f"{file_stem(workload)}.{side}.json.gz"

    def log_path(self, workload: Workload) -> Path:
        """What the worker of a case printed."""
        return self.logs / f"{file_stem(workload)}.log"

    def append(self, record: Record) -> None:
        """Put one record on disk, whole, before returning."""
        line = json.dumps(asdict(record), separators=(",", ":")) + "\n"
        with self.records_path.open("ab+") as stream:
            stream.seek(0)
            stream.truncate(stream.read().rfind(b"\n") + 1)  # what a process that died while it wrote left of a line
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())

    def records(self) -> list[Record]:
        """The last record of every key, in the order in which keys first came. Raises UserError for a damaged line."""
        data = self.records_path.read_bytes() if self.records_path.exists() else b""
        found: dict[str, Record] = {}
        for number, line in enumerate(data.split(b"\n")[:-1], start=1):
            record: Record = _read(Record, line, f"{self.records_path}, line {number}", "a record")
            found[record.key] = record
        return list(found.values())


def file_stem(workload: Workload) -> str:
    """A file name for a case: file systems end names at 255 bytes, and the end of a key is what differs."""
    return workload.slug[-200:]


def _read(kind: type[Any], text: bytes, place: str, what: str) -> Any:
    """The dataclass `kind` in a piece of JSON. Raises UserError that says where it stands and why it is not `what`."""
    try:
        data = json.loads(text)
        schema = data.get("schema") if isinstance(data, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise UserError(
                f"{place}: written by a newer latentmeter (schema {schema}, this one reads {SCHEMA}): upgrade latentmeter"
            )
        return from_dict(kind, data)
    except ValidationError as error:
        raise UserError(f"{place}: not {what}: {describe(error)}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{place}: not {what}: {error}") from error


def open_run(directory: str | Path) -> RunStore:
    """The store of a run that is there. Raises UserError where there is none."""
    store = RunStore(Path(directory))
    store.header()
    return store
