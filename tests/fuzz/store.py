"""The store: damaged records, headers and events. Every reader ends with an answer or a message, never with a traceback.

From the top of the checkout: the runs name their model by a path there.
"""

import contextlib
import gzip
import io
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import yaml

from profiler.commands.main import main
from profiler.files.store import RunStore
from profiler.sweeps import run as running
from tests.fuzz.damage import IN_BYTES, IN_VALUES, damaged
from tests.report import records_factory as factory

NAME = "store"
ROOT = Path(__file__).parents[2]
SWEEP = {"name": "s", "title": "Two estimates", "device": "cpu", "cases": [
    {"model": "tests/models/tiny-image.yaml", "stages": ["decode", "encode"], "gpu": "h200", "options": {}}]}  # fmt: skip
EVENTS = ROOT / "results" / "examples" / "dry-small"
# What is damaged, and who reads it.
READERS = {
    "records.jsonl": ("report", "compare", "run", "explain"),
    "run.json": ("report", "compare", "run"),
    "events": ("explain",),
}
FILES = ("records.jsonl", "records.jsonl", "records.jsonl", "run.json", "events")


def inputs(random: Random) -> Iterator[dict[str, Any]]:
    """A command, the file of the run's folder that is damaged, and what the file holds then."""
    while True:
        file = random.choice(FILES)
        command = random.choice(READERS[file])
        data = good(command, file)
        inside = random.random() < 0.7
        if inside and file == "events":
            data = gzip.compress(damaged(random, gzip.decompress(data), IN_VALUES), mtime=0)
        else:
            data = damaged(random, data, IN_VALUES if inside else IN_BYTES)
        yield {"command": command, "file": file, "content": data}


def check(value: Any, folder: Path) -> None:
    """Raises where the command does not end by itself with exit code 0, 1 or 2."""
    run, sweep = folder / "run", folder / "sweep.yaml"
    sweep.write_text(yaml.safe_dump(SWEEP))
    files = base(value["command"])
    for name, content in (files | {path_of(value["command"], value["file"]): value["content"]}).items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(content)
    words = {
        "report": ["report", run],
        "compare": ["compare", run, EVENTS],
        "explain": ["explain", run],
        "run": ["run", sweep, "--out", run],
    }[value["command"]]
    code, said = shell(*map(str, words))
    assert code in (0, 1, 2), f"exit code {code}: {said[-300:]}"
    assert "Traceback" not in said
    assert code == 0 or said.strip(), "an error without a word"


def shell(*words: str) -> tuple[Any, str]:
    """The command line in this process: exit code, and all that it said."""
    said = io.StringIO()
    probe = patch.object(running, "probe_stack", lambda device: factory.CPU)  # a process of its own: seconds
    argv = patch.object(sys, "argv", ["latentmeter", *words])
    # No answer from another time, and a table as wide as a terminal.
    environment = patch.dict(os.environ, {"LATENTMETER_CACHE": "off", "COLUMNS": "100"})
    with probe, argv, environment, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as end:
            return end.code or 0, said.getvalue()
    return 0, said.getvalue()


def good(command: str, file: str) -> bytes:
    """What the file holds before the accident."""
    return base(command)[path_of(command, file)]


def path_of(command: str, file: str) -> str:
    """The file's path inside the run's folder; `events` is the first stream of them."""
    return min(name for name in base(command) if name.startswith(file))


@cache
def base(command: str) -> dict[str, bytes]:
    """A whole run's files: one with events for `explain`; else two estimates, a measurement, a failure, a CPU's."""
    if command == "explain":
        return read_all(EVENTS, "run.json", "records.jsonl", "events/*")
    with TemporaryDirectory() as folder:
        run, sweep = Path(folder) / "run", Path(folder) / "sweep.yaml"
        sweep.write_text(yaml.safe_dump(SWEEP))
        code, said = shell("run", str(sweep), "--out", str(run))
        assert code == 0, said
        for record in (factory.record(), factory.oom(), factory.on_cpu()):
            RunStore(run).append(record)
        return read_all(run, "run.json", "records.jsonl")


def read_all(folder: Path, *patterns: str) -> dict[str, bytes]:
    """The contents of the files that match, by their paths."""
    return {str(path.relative_to(folder)): path.read_bytes() for pattern in patterns for path in folder.glob(pattern)}
