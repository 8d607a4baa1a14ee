"""Every error is a message and an exit code: ordinary mistakes, faults of the machine, and our own errors with their log."""

import errno
import gzip
import json
import math
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import profiler
from profiler.commands.main import EXIT_CODES, cli
from profiler.errors import UserError
from profiler.files.store import RunHeader, RunStore
from profiler.files.write import write_atomically
from profiler.sweeps.run import RunOptions
from tests.report import records_factory as factory

ROOT = Path(__file__).parents[2]
TINY = Path("tests/models/tiny-image.yaml").read_text()
BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
FILES = {
    "tiny.yaml": TINY.encode(),
    "file": b"a file\n",
    "accuracy.md": b"an older table\n",
    "tables/accuracy.csv": b"an older table\n",
    "date.yaml": TINY.replace("name: Tiny image model", "name: !!timestamp 2026-02-30").encode(),
    "bool.yaml": TINY.replace("name: Tiny", "name: !!bool maybe #").encode(),
    "int.yaml": TINY.replace("latent_channels: 4", "latent_channels: !!int ''").encode(),
    "digits.yaml": TINY.replace("latent_channels: 4", f"latent_channels: {'9' * 5000}").encode(),
    "large.yaml": TINY.replace("latent_channels: 4", f"latent_channels: {'9' * 400}").encode(),
    "anchors.yaml": (BOMB + TINY.replace("scaling_factor: 0.18215", "bomb: *i")).encode(),
    "cycle.yaml": TINY.replace("scaling_factor: 0.18215", "bomb: &a [*a]").encode(),
    "latin1.yaml": TINY.replace("Tiny", "T\xefny").encode("latin1"),
    "set.yaml": TINY.replace("scaling_factor: 0.18215", "names: !!set {a}").encode(),
    "huge.yaml": TINY.encode() + b"# " + b"x" * 3_000_000,
    "latin1.json": b'{"_class_name": "Autoencoder\xefKL"}',
    "deep.json": b'{"_class_name": ' + b"[" * 100_000,
    "half.json": b'{"_class_name": "AutoencoderKL", "name": "\\ud800"}',
    "wrong.yaml": TINY.replace("{shape: [B, L, cross_attention_dim]}", "{shape: [B, L, 7]}").encode(),
    "forever.yaml": None,  # a link to a file that never ends
}
IN_RUN = ("cut", "foreign", "empty", "numbers", "twice")
MISTAKES: list[tuple[str, int, str]] = [
    ("estimate date.yaml", 2, "date.yaml: not YAML: day is out of range"),
    ("estimate bool.yaml", 2, "bool.yaml: not YAML"),
    ("estimate int.yaml", 2, "int.yaml: not YAML"),
    ("estimate digits.yaml", 2, "digits.yaml: not YAML"),
    ("estimate large.yaml", 2, "large.yaml: not YAML: a number of more than 64 bits"),
    ("estimate anchors.yaml", 2, "anchors.yaml: not YAML: more than 100,000 values"),
    ("estimate cycle.yaml", 2, "cycle.yaml: not YAML: nested more than"),
    ("estimate latin1.yaml", 2, "latin1.yaml: not YAML: 'utf-8'"),
    ("estimate set.yaml", 2, "set.yaml: not YAML: a set"),
    ("estimate huge.yaml", 2, "huge.yaml: not YAML: more than 2.0 MiB"),
    ("estimate forever.yaml", 2, "forever.yaml: not YAML: more than 2.0 MiB"),
    ("estimate latin1.json", 2, "latin1.json: not JSON: 'utf-8'"),
    ("estimate deep.json", 2, "deep.json: not JSON"),
    ("estimate half.json", 2, "half.json: not JSON: 'utf-8'"),
    ("run file", 2, "file: expected a mapping at the top, found str"),
    ("run forever.yaml", 2, "forever.yaml: not YAML: more than"),
    ("run tiny.yaml", 2, "not a sweep file"),
    ("run sweep.yaml --budget-minutes nan", 2, "--budget-minutes: expected a number from 0"),
    ("run sweep.yaml --budget-minutes inf", 2, "--budget-minutes: expected a number from 0"),
    ("run sweep.yaml --out file", 2, "file: is no folder; choose another"),
    ("run sweep.yaml --out file/run", 2, "file/run: cannot be written: Not a directory"),
    ("run sweep.yaml --out /proc/x", 2, "/proc/x: cannot be written"),
    (f"run sweep.yaml --out {'x' * 300}", 2, "File name too long"),
    ("accuracy run --out file", 2, "file: is no folder; choose another"),
    ("accuracy run --out .", 2, "accuracy.md: exists already; --force replaces it"),
    ("accuracy run --out tables", 2, "accuracy.csv: exists already; --force replaces it"),
    ("hotspots tiny.yaml --out file", 2, "file: exists already; --force replaces it"),
    ("hotspots tiny.yaml --out run", 2, "run: is no ordinary file"),
    ("hotspots tiny.yaml --out file/x.html", 2, "file/x.html: cannot be written: Not a directory"),
    ("hotspots tiny.yaml --out /proc/x.html", 2, "/proc/x.html: cannot be written"),
    ("hotspots tiny.yaml --out /dev/null --force", 2, "/dev/null: is no ordinary file"),
    ("hotspots tiny.yaml --export csv=/proc/x.csv", 2, "/proc/x.csv: cannot be written"),
    ("hotspots tiny.yaml --export-dir file", 2, "file/snapshot.pickle: cannot be written: Not a directory"),
    ("coverage --class AutoencoderTiny --out file", 2, "file: exists already"),
    ("doctor --dump-card file", 2, "file: exists already"),
    ("doctor --dump-card /proc/card.yaml", 2, "/proc/card.yaml: cannot be written"),
    ("estimate tiny.yaml --tiling --tile \u00b2x\u00b2", 2, "is not HEIGHTxWIDTH"),
    ("estimate tiny.yaml --tiling --tile \u0663x\u0663", 2, "is not HEIGHTxWIDTH"),
    (f"estimate tiny.yaml --tiling --tile {'9' * 5000}x8", 2, "is not HEIGHTxWIDTH"),
    (f"estimate tiny.yaml --height {'9' * 400}", 2, "height: expected a positive integer, got one of many digits"),
    (f"estimate tiny.yaml --height 1{'0' * 30}", 2, "at most 1,000,000"),
    ("estimate tiny.yaml --height 1000000 --width 1000000 --batch 200", 2, "at most 100,000,000,000,000 pixels"),
    ("estimate caf\udce9.yaml", 2, "is not UTF-8; rename"),
    ("report caf\udce9", 2, "is not UTF-8; rename"),
    ("estimate tiny.yaml --torch \u00b2", 2, "torch: expected a release such as 2.7.1"),
    (f"estimate tiny.yaml --torch {'9' * 5000}", 2, "torch: expected a release such as 2.7.1"),
    ("estimate tiny.yaml --after 1x2000000x8", 2, "history: expected (frames, height, width)"),
    (f"latent --frames 1{'0' * 400} --height 8 --width 8 --channels 4 --spatial 8 --temporal 4", 2, "num_frames"),
    ("measure tiny.yaml --timeout nan", 2, "timeout: expected a number from 0"),
    ("measure tiny.yaml --timeout inf", 2, "timeout: expected a number from 0"),
    (f"measure tiny.yaml --warm-calls 1{'0' * 30}", 2, "warm_calls: expected a number from 0 to 1,000"),
    *((f"explain {kind}", 1, "not a stream of allocator events") for kind in IN_RUN),
]  # fmt: skip


def make_run(folder: Path, events: bytes | None = None) -> None:
    """A run of one case, with these bytes where its events are kept."""
    store, record = RunStore(folder), factory.exact()
    with store.writing():
        store.begin(RunHeader(title="t", sweep={"name": "s"}, command="c", created="now", fingerprint="f", version="0"))
        store.append(record)
    if events is not None:
        store.event_path(record.workload, "measured").write_bytes(events)
        store.event_path(record.workload, "estimated").write_bytes(events)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with damaged files, a sweep, and runs whose events are damaged."""
    for name, data in FILES.items():
        if data is None:
            (tmp_path / name).symlink_to("/dev/zero")
        else:
            write_atomically(tmp_path / name, data)
    sweep = {"name": "s", "title": "t", "device": "cpu", "cases": [{"model": "tiny.yaml", "stages": ["decode"]}]}
    (tmp_path / "sweep.yaml").write_text(json.dumps(sweep))
    columns = {"schema": 1, "term": ["a"], "phase": ["cold"], "shape": [[1]], "dtype": ["fp32"], "ops": [["", "x"]]}
    twice = columns | {"bytes": [8], "op": [0], "events": [0, 0]}
    events = {
        "cut": gzip.compress(json.dumps(twice).encode())[:-9],
        "foreign": b"not gzip",
        "empty": gzip.compress(b"{}"),
        "numbers": gzip.compress(b"[1, 2]"),
        "twice": gzip.compress(json.dumps(twice).encode()),
    }
    make_run(tmp_path / "run")
    (tmp_path / "caf\udce9").symlink_to("run")
    (tmp_path / "caf\udce9.yaml").symlink_to("tiny.yaml")
    for name in IN_RUN:
        make_run(tmp_path / name, events[name])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("line", "code", "says"), MISTAKES, ids=[line[:60] for line, _, _ in MISTAKES])
def test_an_ordinary_mistake_is_a_message(
    latentmeter: Callable[..., Any], place: Path, line: str, code: int, says: str
) -> None:
    answer = latentmeter(*line.split())
    assert (answer.code, "Traceback" in answer.err) == (code, False), answer.err[-2000:]
    assert says in answer.err + answer.out


MISTAKES_IN_PYTHON: list[tuple[Callable[[], Any], str]] = [
    (lambda: profiler.run("sweep.yaml", "file"), "file: is no folder"),
    (lambda: profiler.run("sweep.yaml", "/proc/x"), "/proc/x: cannot be written"),
    (lambda: profiler.measure("tiny.yaml", timeout=math.nan), "timeout: expected a number"),
    (lambda: profiler.measure("tiny.yaml", warm_calls=-1), "warm_calls: expected a number"),
    (lambda: RunOptions(budget_minutes=math.inf), "budget_minutes: expected a number"),
    (lambda: profiler.estimate("tiny.yaml", height=10**5000), "height: expected a positive integer"),
    (lambda: profiler.estimate("tiny.yaml", height=True), "height: expected a positive integer, got True"),
    (lambda: profiler.estimate_video_latent_memory(10**400, 8, 8, 4, 8, 4), "num_frames: expected a positive"),
    (lambda: profiler.estimate("caf\udce9.yaml"), "is not UTF-8"),
    (lambda: profiler.estimate("bool.yaml"), "bool.yaml: not YAML"),
    (lambda: profiler.find_model("half.json"), "half.json: not JSON"),
    (lambda: profiler.accuracy(["huge.yaml"]), "huge.yaml: not YAML: more than"),
]


@pytest.mark.parametrize(("call", "says"), MISTAKES_IN_PYTHON, ids=[says for _, says in MISTAKES_IN_PYTHON])
def test_a_mistake_in_python_is_an_error_of_this_package(place: Path, call: Callable[[], Any], says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        call()


def program(*arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "profiler", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False, **how)


def test_standard_output_that_takes_nothing_ends_with_1_and_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = program("models", "--json", stdout=full)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "latentmeter: No space left on device; free some space or name another place; what was saved before is whole"
    ]


def test_a_reader_that_leaves_hears_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = program("models", "--json", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_model_that_cannot_run_is_one_line_without_what_torch_prints(place: Path) -> None:
    done = program("estimate", "wrong.yaml", "--stage", "denoise", "--gpu", "t4", stdout=subprocess.PIPE)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert line.startswith(
        "latentmeter: wrong.yaml/denoise/1x32x32/b1/fp32: cannot be traced without data: RuntimeError: a and b must"
    )


def test_a_disk_that_refuses_names_the_file(place: Path) -> None:
    def no_file_longer_than_a_kilobyte() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = program("report", "run", stdout=subprocess.PIPE, preexec_fn=no_file_longer_than_a_kilobyte)
    assert (done.returncode, done.stderr) == (1, "latentmeter: run/report.html: File too large\n")
    assert not list(Path("run").glob(".*.new"))


def test_a_page_is_written_into_a_folder_that_is_made(latentmeter: Callable[..., Any], place: Path) -> None:
    answer = latentmeter("hotspots", "tiny.yaml", "--no-remedies", "--gpu", "h200", "--out", "made/page.html")
    assert (answer.code, answer.err) == (0, "")
    assert Path("made/page.html").read_text().startswith("<!DOCTYPE html>")


class Nothing(Exception):
    """An error without a message."""


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyError("x"), 3, "KeyError: 'x'"),
        (Nothing(), 3, "Nothing: Nothing"),
        (EOFError("cut off"), 3, "EOFError: cut off"),
        (OSError("without a number"), 3, "OSError: without a number"),
        (RecursionError("deep"), 3, "RecursionError: deep"),
        (MemoryError(), 1, "this machine's memory is used up"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 1, "x: No space left on device; free some space"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 1, "x: No such file; was it, or its folder, removed"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "x: Permission denied; name another place"),
        (OSError(errno.EROFS, "Read-only file system", b"x"), 2, "x: Read-only file system; name another place"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.UsageError("no"), 2, "Error: no"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_each_kind_of_error_has_its_exit_code(
    latentmeter: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, says: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(cli.get_command(click.Context(cli), "models"), "callback", fail)
    answer = latentmeter("models")
    assert (answer.code, "Traceback" in answer.err) == (code, False)
    assert says in answer.err
    log = re.search(r"its traceback is in (\S+) \(--debug shows it here\)", answer.err)
    assert (log is not None) == (code == 3)
    if log:
        text = Path(log[1]).read_text()
        Path(log[1]).unlink()
        assert "Traceback" in text
        assert "'models'" in text


@pytest.mark.parametrize("line", ["--debug models sdxxl", "models sdxxl --debug", "recordings make sdxxl --debug"])
def test_debug_shows_the_traceback_of_any_error(latentmeter: Callable[..., Any], line: str) -> None:
    answer = latentmeter(*line.split())
    assert answer.code == 2
    assert "Traceback" in answer.err
    assert answer.err.splitlines()[-1].startswith("latentmeter: no model 'sdxxl'")


def test_the_exit_codes_are_in_the_help_and_in_the_readme(latentmeter: Callable[..., Any]) -> None:
    codes = re.findall(r"^  (\d+) ", EXIT_CODES, re.MULTILINE)
    assert codes == ["0", "1", "2", "3", "130", "143"]
    assert "\n    143  terminated" in latentmeter("--help").out
    line = next(line for line in (ROOT / "README.md").read_text().split("\n- ") if line.startswith("Exit codes"))
    assert re.findall(r"\b(\d+)\s", line.partition("\n\n")[0]) == codes
