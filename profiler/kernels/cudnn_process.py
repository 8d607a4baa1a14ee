"""The process that holds cuDNN (`cudnn_server.py`): asking it, and why it is silent where it is."""

import json
import logging
import os
import re
import signal
import subprocess
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from threading import Timer
from typing import Any

from profiler.data.text import visible
from profiler.files.paths import installed
from profiler.kernels.cudnn_library import FRONT_END, SEARCHED, front_end_version, library, missing
from profiler.machine.cards import gpu
from profiler.machine.child import child_command

NO_ANSWER = "is installed but does not answer"
SEEN = "9.10.2 to 9.28.1"  # on a machine without a driver, where these, 9.19.0, 9.20.0, 9.24.0, 9.26.1 and 9.27.0 were tried
MOST_SAID = 300  # characters of a last line
PATIENCE = 120.0  # seconds for an answer; the first takes about one, the others milliseconds
# For an H200 each cuDNN that was tried, from 9.19.0 to 9.28.1, answers 537165971.
TRIED = "bfloat16 1,128,1024,1024 128,128,3,3 1,1 1,1 1,1 1 contiguous half"
ANSWER = re.compile(r"(\d+|null)\n")

logger = logging.getLogger(__name__)


class SilentError(Exception):
    """cuDNN does not answer here; the message is a whole reason for a reader, with what to do."""


class CudnnProcess:
    """A process of our own that answers questions for one card's property record, or on this machine's card itself.

    Raises SilentError where none can be.
    """

    def __init__(self, record: dict[str, Any] | None, *, on_card: bool = False) -> None:
        if reason := missing():
            raise SilentError(reason)
        self._late = False
        command = child_command("profiler.kernels.cudnn_server", *["--on-card"] * on_card)
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
            version = (front_end_version() or "").rpartition("-")[2]
            raise SilentError(f"cuDNN {version} {NO_ANSWER} ({SEEN} were seen to): {self._last_words()}")
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


@dataclass(frozen=True)
class Trial:
    """Whether cuDNN answers here: the versions installed, the workspace that it plans for `TRIED`, or why it is silent."""

    front_end: str | None
    library: str | None
    bytes: int | None
    reason: str


@cache
def try_planner() -> Trial:
    """Ask for one convolution, on an H200 whatever this machine has."""
    found, size = library(), None
    try:
        with closing(CudnnProcess(gpu("h200").properties)) as process:
            size = process.ask(TRIED)
        reason = "" if size is not None else "it builds no plan for a convolution that others plan"
    except SilentError as error:
        reason = str(error)
    return Trial(installed(FRONT_END), found.version if found else None, size, reason)


def environment() -> dict[str, str]:
    """That of the process, without what would change its answers.

    A question says itself whether TF32 is allowed: answers are kept, and must not depend on who asks. A wheel finds its own
    parts; where else libraries are searched there may be another cuDNN.
    """
    found = library()
    dropped = ("NVIDIA_TF32_OVERRIDE", SEARCHED if found is not None and found.wheel else "")
    return {name: value for name, value in os.environ.items() if name not in dropped}
