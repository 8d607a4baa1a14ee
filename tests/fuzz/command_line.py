"""Any words after `latentmeter`: each command line ends with 0, 1 or 2, and what is wrong is said without a traceback.

They are made from the options that the commands have, so that a new option is tried as soon as it is there.
The work itself (a trace, a measurement, the hub) is replaced by an error: what is tried is all that leads to it.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from random import Random
from unittest import mock

import click
import huggingface_hub.constants
from hypothesis import strategies as st

from profiler.commands.main import cli, main
from profiler.errors import LatentmeterError
from profiler.files.store import RunHeader, RunStore
from tests.report import records_factory as factory

NAME = "command_line"
TINY = (Path(__file__).parents[1] / "models" / "tiny-image.yaml").read_text(encoding="utf-8")
NAMES = [
    "tiny.yaml",
    "sweep.yaml",
    "run",
    "file",
    "new",
    "new/page.html",
    "sd1.5",
    "quickstart",
    "AutoencoderTiny",
    "h200",
]
RIGHT = [
    "tiny.yaml",
    "tiny.yaml",
    "sweep.yaml",
    "run",
]  # of an argument, so that the options have something to be about
ODD = [
    *("", "-", "--", "-1", "0", "1", "8", "32", "nan", "-inf", "1e400", "2%", "nan%", "\u00b2", "9" * 400, "9" * 5000),
    *("8x8", "1x32x32", "\u00b2x\u00b2", "xx", "../x", "./nofolder", "no/such", "a/b", "a/b/c", ".", "..", "~", "x" * 300),
    *("/dev/null", "/dev/full", "/dev/zero", "/proc/x", "/proc/self/mem", "config.json", "x.json", "csv=new", "=", "{}"),
    *("None", "\x1b[31m", "=1+1", "\udcff", "2.7.1", "90701", "os.system", "lambda"),
]  # fmt: skip
# Where work begins, and what is there instead.
WORK = (
    "profiler.estimation.estimator.estimate",
    "profiler.estimation.estimator.estimate_with_events",
    "profiler.estimation.recorded.make_recording",
    "profiler.diagnosis.collect.estimated",
    "profiler.diagnosis.sources.measure_events",
    "profiler.evidence.coverage.try_class",
)

LETTERS = (
    "abcxyz019-_=.,:;@%+*?!'\"\\ \t\n\u00e9\u00b2\u4e2d\U0001f600\x1b\x7f\udcff"  # \udcff: a byte that is no UTF-8
)


def command_line(random: Random) -> list[str]:
    """Words: mostly a command with some of its options, some of them with a value of their kind."""
    if random.random() < 0.1:
        return [_word(random) for _ in range(random.randrange(4))]
    command, words = cli, []
    while isinstance(command, click.Group):
        context = click.Context(command)
        words.append(random.choice(sorted(command.list_commands(context))))
        command = command.get_command(context, words[-1])
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    words += [random.choice(RIGHT) if random.random() < 0.7 else _value(random, argument) for argument in arguments]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    needed = [option for option in options if option.required and random.random() < 0.9]
    for option in [*needed, *random.choices(options, k=random.randrange(5))]:
        words.append(random.choice([*option.opts, *option.secondary_opts]))
        if not (option.is_flag or option.count):
            words.append(_value(random, option))
    return words if random.random() < 0.9 else [*words, _word(random)]


def _value(random: Random, parameter: click.Parameter) -> str:
    """What the parameter may take, or any word."""
    known = [str(word) for word in parameter.type.choices] if isinstance(parameter.type, click.Choice) else NAMES
    if parameter.type is click.INT:
        known = ["1", "2", "4", "8", "16", "32"]
    return random.choice(known) if random.random() < 0.5 else _word(random)


def _word(random: Random) -> str:
    return random.choice([*ODD, *NAMES, "".join(random.choices(LETTERS, k=random.randrange(8)))])


def inputs(random: Random) -> Iterator[list[str]]:
    """Command lines without an end."""
    while True:
        yield command_line(random)


command_lines = st.builds(command_line, st.randoms(use_true_random=False))


def check(value: Sequence[str], folder: Path) -> None:
    """Raise AssertionError where `latentmeter` with these words, run inside `folder`, ends otherwise than it should."""
    _fill(folder)
    with chdir(folder):
        _run(value)


def check_command_line(args: Sequence[str]) -> None:
    """`check` in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "here")
        place.mkdir()
        check(args, place)


def _run(args: Sequence[str]) -> None:
    out = StringIO()
    with _no_work(), mock.patch("sys.argv", ["latentmeter", *args]), redirect_stdout(out), redirect_stderr(out):
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code
    said = out.getvalue()
    assert code in (0, 1, 2), f"{list(args)} ends with {code}: {said[-2000:]}"
    assert "--debug" in args or "Traceback" not in said, f"{list(args)}: {said[-2000:]}"
    assert code == 0 or said.strip(), f"{list(args)} ends with {code} and says nothing"


@contextmanager
def _no_work() -> Iterator[None]:
    """No trace, no process, no hub: each is an error of its kind at once."""
    stopped = LatentmeterError("the work would begin here")
    done = subprocess.CompletedProcess([], 1, "", "no process is started here")
    with ExitStack() as stack:
        for name in WORK:
            stack.enter_context(mock.patch(name, side_effect=stopped))
        stack.enter_context(mock.patch("subprocess.run", return_value=done))
        stack.enter_context(mock.patch.object(huggingface_hub.constants, "HF_HUB_OFFLINE", True))
        stack.enter_context(mock.patch.dict(os.environ, LATENTMETER_CACHE="off"))
        yield


def _fill(place: Path) -> None:
    """A model, a sweep, a run, and a file that is none of them."""
    sweep = {"name": "s", "title": "t", "device": "cpu", "cases": [{"model": "tiny.yaml", "stages": ["decode"]}]}
    (place / "tiny.yaml").write_text(TINY, encoding="utf-8")
    (place / "sweep.yaml").write_text(json.dumps(sweep), encoding="utf-8")
    (place / "file").write_text("a file", encoding="utf-8")
    store = RunStore(place / "run")
    with store.writing():
        store.begin(RunHeader(title="t", sweep={"name": "s"}, command="c", created="now", fingerprint="f", version="0"))
        store.append(factory.exact())
