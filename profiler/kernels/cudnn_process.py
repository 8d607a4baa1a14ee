"""The process that holds cuDNN (`cudnn_server.py`): which cuDNN that is, asking it, and why it is silent where it is."""

import importlib.util
import json
import logging
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from threading import Timer
from typing import Any, NamedTuple

from profiler.data.text import visible
from profiler.files.paths import installed
from profiler.machine.child import child_command

FRONT_END = "nvidia-cudnn-frontend"
WHEELS = ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12")  # cuDNN for CUDA 13 and for CUDA 12
SEARCHED = "LD_LIBRARY_PATH"
SYSTEM = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/cuda/lib64")
FIRST_WITHOUT_DEVICE = 90800  # cuDNN's release notes: ahead-of-time compilation, for a device that is not there
NO_ANSWER = "is installed but does not answer"
MOST_SAID = 300  # characters of a last line
PATIENCE = 120.0  # seconds for an answer; the first takes about one, the others milliseconds
ANSWER = re.compile(r"(\d+|null)\n")

logger = logging.getLogger(__name__)


class SilentError(Exception):
    """cuDNN does not answer here; the message is a whole reason for a reader, with what to do."""


class Library(NamedTuple):
    """A cuDNN that is installed: its version, such as 9.20.0.48, its folder, and whether it came as a wheel."""

    version: str
    folder: Path
    wheel: bool


@cache
def library() -> Library | None:
    """The cuDNN that torch would load: a wheel's, as a CUDA build of torch or the extra `planner` brings, else the system's.

    Looks at names of files alone: loading it here would put it in the way of torch's own.
    """
    for name in WHEELS:
        with suppress(PackageNotFoundError):
            found = distribution(name)
            return Library(found.version, Path(str(found.locate_file("nvidia/cudnn/lib"))), wheel=True)
    for folder in map(Path, [*os.environ.get(SEARCHED, "").split(os.pathsep), f"{sys.prefix}/lib", *SYSTEM]):
        file = (folder / "libcudnn.so.9").resolve()
        if (version := file.name.removeprefix("libcudnn.so.")).count(".") == 2 and file.is_file():
            return Library(version, folder, wheel=False)
    return None


@cache
def front_end_version() -> str | None:
    """The versions of cuDNN's front-end and library, as text; None where one of them is missing."""
    found = library()
    if found is None or importlib.util.find_spec("cudnn") is None:
        return None
    return f"{installed(FRONT_END) or 'unknown'}-{found.version}"


@cache
def installed_cudnn() -> int | None:
    """The version of the cuDNN that is installed, as torch's integer; None where there is none."""
    found = library()
    numbers = [int(part) for part in found.version.split(".")[:3]] if found else []
    return numbers[0] * 10000 + numbers[1] * 100 + numbers[2] if len(numbers) == 3 else None


def missing() -> str | None:
    """Why nobody can be asked here, and what to do; None where a process can be started."""
    found = library()
    if found is None:
        return "no cuDNN is installed that could be asked: `pip install latentmeter[planner]` brings one"
    if importlib.util.find_spec("cudnn") is None:
        return f"cuDNN {found.version} is installed, its front-end is not: pip install {FRONT_END}"
    if (installed_cudnn() or 0) < FIRST_WITHOUT_DEVICE:
        return f"cuDNN {found.version} is installed and cannot plan without a GPU, as 9.8 and later do"
    return None


class CudnnProcess:
    """A process of our own that answers questions for one card's property record. Raises SilentError where none can be."""

    def __init__(self, record: dict[str, Any] | None) -> None:
        if reason := missing():
            raise SilentError(reason)
        self._late = False
        command = child_command("profiler.kernels.cudnn_server")
        logger.debug("cuDNN's front-end starts: %s", " ".join(command))
        self._errors = os.fdopen(os.memfd_create("stderr"), "w+b")  # a pipe that nobody reads would fill
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            errors="replace",
            env=environment(),
        )
        self._say(json.dumps(record))

    def ask(self, question: str) -> int | None:
        """Workspace bytes of cuDNN's plan; None where it builds none. Raises SilentError where it does not answer."""
        assert self._process.stdout is not None
        late = Timer(PATIENCE, self._give_up)
        late.start()
        try:
            self._say(question)
            # Libraries that the process loads may print lines of their own. The end of its output is no answer.
            line = next((line for line in self._process.stdout if ANSWER.fullmatch(line)), None)
        finally:
            late.cancel()
        if line is None:
            raise SilentError(f"cuDNN ({front_end_version()}) {NO_ANSWER}: {self._last_words()}")
        answer: int | None = json.loads(line)
        return answer

    def close(self) -> None:
        """Let the process go."""
        self._process.communicate()
        self._errors.close()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # it has ended: so has its output, and `ask` says why

    def _give_up(self) -> None:
        self._late = True
        self._process.kill()

    def _last_words(self) -> str:
        """How the process ended, and the last line that it said."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)  # its output has ended: so will it
        self._process.kill()
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = next((visible(line.strip())[:MOST_SAID] for line in reversed(lines) if line.strip()), "")
        if self._late:
            return f"not within {PATIENCE:g} s"
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return ", ".join(filter(None, (how, said)))


def environment() -> dict[str, str]:
    """That of the process, without what would change its answers.

    A question says itself whether TF32 is allowed: answers are kept, and must not depend on who asks. A wheel finds its own
    parts; where else libraries are searched there may be another cuDNN.
    """
    found = library()
    dropped = ("NVIDIA_TF32_OVERRIDE", SEARCHED if found is not None and found.wheel else "")
    return {name: value for name, value in os.environ.items() if name not in dropped}
