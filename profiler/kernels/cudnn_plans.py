"""Asks cuDNN itself what a convolution borrows, without a GPU.

cuDNN 9.8 and later plan for a card's property record: the same heuristics, engines and workspace bytes as on the card.
ATen takes the first plan that builds, so that plan's workspace is what a run borrows. Answers come from, in this order:
plans shipped for the catalog (`configs/plans`), plans asked before (a cache on disk), and cuDNN in a process of its own,
where its maintained front-end is installed (`pip install latentmeter[planner]`). Else the caller has the closed form.
"""

import hashlib
import importlib.util
import json
import logging
import os
import re
import subprocess
from contextlib import suppress
from contextvars import ContextVar
from functools import cache, cached_property
from typing import Any

from profiler.data.stack import Stack
from profiler.files.cache import find, keep
from profiler.files.paths import CONFIGS, installed
from profiler.kernels.convolution import Convolution, is_beyond_32_bit
from profiler.machine.cards import gpu_named
from profiler.machine.child import child_command

MOST_KEPT = 50_000  # questions of a card: some 5 MB, of which the latest stay
# cuDNN 9.20.0, as torch's integer: it planned what `configs/plans` has, and the closed form is read off it.
SHIPPED_BY = 92000
ANSWER = re.compile(r"(\d+|null)\n")

logger = logging.getLogger(__name__)
CLOSED_FORM: ContextVar[bool] = ContextVar("CLOSED_FORM", default=False)  # set: nobody is asked, as for an unknown card


class Planner:
    """Workspace bytes for one stack's card. `answered` counts by source: `shipped`, `cached` or `asked`."""

    def __init__(self, stack: Stack) -> None:
        self.answered = {"shipped": 0, "cached": 0, "asked": 0}
        self._card = gpu_named(stack.gpu)
        self._record = self._card.properties if self._card else None
        self._tf32 = stack.tf32
        self._server: subprocess.Popen[str] | None = None
        self._new: dict[str, int] = {}

    def workspace_bytes(self, conv: Convolution) -> int | None:
        """The workspace of cuDNN's first plan for `conv`; None where nothing here knows it."""
        if conv.transposed or is_beyond_32_bit(conv):  # there it names engines that a card would try last
            return None
        return self.answer(question_of(conv, tf32=self._tf32))

    def answer(self, question: str) -> int | None:
        """The workspace for one `question_of` a convolution; None where nothing here knows it."""
        if self._record is None or CLOSED_FORM.get():
            return None
        if question in self._shipped:
            self.answered["shipped"] += 1
            return self._shipped[question]
        if question in self.kept:
            self.answered["cached"] += 1
            return self.kept[question]
        answer = self._ask(question)
        if answer is not None:
            self.answered["asked"] += 1
            self.kept[question] = self._new[question] = answer
        return answer

    def close(self) -> None:
        """Keep what was asked, and let the process go."""
        if self._server is not None:
            self._server.communicate()
            self._server = None
        if self._new:
            with suppress(OSError):  # a disk that takes nothing: the next process asks again
                known = self._read() | self._new  # another process may have kept some meanwhile
                keep("plans", self._name, dict([*known.items()][-MOST_KEPT:]))
            self._new = {}

    @cached_property
    def _shipped(self) -> dict[str, int | None]:
        return shipped_plans(self._card.id, digest(self._record)) if self._card else {}

    @cached_property
    def kept(self) -> dict[str, int]:
        """What was asked before on this machine, and is since."""
        return self._read()

    def _read(self) -> dict[str, int]:
        return find("plans", self._name) or {}

    @property
    def _name(self) -> str:
        """Names what was asked of one front-end and library, for one property record."""
        return f"{front_end_version()}-{digest(self._record)}"

    def _ask(self, question: str) -> int | None:
        """One question to the process with cuDNN; None without the front-end, or where no plan builds."""
        if front_end_version() is None:
            return None
        if self._server is None:
            command = child_command("profiler.kernels.cudnn_server")
            logger.debug("cuDNN's front-end starts: %s", " ".join(command))
            self._server = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                # A question says itself whether TF32 is allowed: answers are kept, and must not depend on who asks.
                env={name: value for name, value in os.environ.items() if name != "NVIDIA_TF32_OVERRIDE"},
            )
            self._say(json.dumps(self._record))
        self._say(question)
        assert self._server.stdout is not None
        # Libraries that the process loads may print lines of their own. The end of its output is no answer.
        line = next((line for line in self._server.stdout if ANSWER.fullmatch(line)), "null")
        answer: int | None = json.loads(line)
        return answer

    def _say(self, line: str) -> None:
        assert self._server is not None
        assert self._server.stdin is not None
        try:
            self._server.stdin.write(line + "\n")
            self._server.stdin.flush()
        except BrokenPipeError:
            return  # the server could not load cuDNN: its answers are empty


@cache
def shipped_plans(card: str, record: str) -> dict[str, int | None]:
    """Workspace by question for one card, from `configs/plans`; nothing where its property record is another.

    `questions.txt` has a question a line, only ever added to at its end; `<card>.json` has the answers in that order.
    """
    path = CONFIGS / "plans" / f"{card}.json"
    if not path.is_file():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    if data["record"] != record:
        return {}
    questions = (CONFIGS / "plans" / "questions.txt").read_text(encoding="utf-8").splitlines()
    return dict(zip(questions, data["bytes"], strict=False))


def planned_by() -> list[int]:
    """The versions of cuDNN by whose plans convolutions are priced here, as torch's integers: shipped, and installed."""
    text = (front_end_version() or "").partition("-")[2]
    parts = [int(part) for part in text.split(".")[:3] if part.isdigit()]
    asked = parts[0] * 10000 + parts[1] * 100 + parts[2] if len(parts) == 3 else SHIPPED_BY
    return sorted({SHIPPED_BY, asked})


@cache
def front_end_version() -> str | None:
    """The installed cuDNN front-end and library, as text; None where the front-end is missing."""
    if importlib.util.find_spec("cudnn") is None:
        return None
    names = ("nvidia-cudnn-frontend", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12")
    return "-".join(version for version in map(installed, names) if version)


def question_of(conv: Convolution, *, tf32: bool) -> str:
    """A convolution as one line, which is also its key in tables and caches.

    Fields: dtype, x, weight, padding, stride, dilation, groups, memory order, and for fp32 whether TF32 is allowed.
    """
    numbers = [",".join(map(str, v)) for v in (conv.x, conv.weight, conv.padding, conv.stride, conv.dilation)]
    order = "channels_last" if conv.channels_last else "contiguous"
    mode = ("tf32" if tf32 else "ieee") if conv.dtype == "float32" else "half"
    return " ".join([conv.dtype, *numbers, str(conv.groups), order, mode])


def digest(record: dict[str, Any] | None) -> str:
    """Twelve hex digits over a property record."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]
