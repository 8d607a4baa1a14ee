"""Tries a kind of inputs: each in a folder of its own, and within a time."""

import signal
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Protocol
from unittest.mock import patch

WORKING, WAITING = 60, 600  # seconds of the processor, and of the clock, after which an input hangs


class Kind(Protocol):
    """A module of this folder. An input is made of Python's literals, so that `repr` says all of it."""

    NAME: str

    def inputs(self, random: Random, /) -> Iterator[Any]:
        """Inputs without an end; the same seed gives the same ones."""

    def check(self, value: Any, folder: Path, /) -> None:
        """Try one input, in an empty folder. Raises where it ends with a traceback or a wrong answer."""


def trials(kind: Kind, seed: int, number: int) -> Iterator[tuple[Any, BaseException | None]]:
    """So many inputs of a kind, each with what it raised."""
    for value in islice(kind.inputs(Random(f"{kind.NAME} {seed}")), number):
        yield value, failure(kind, value)


def failure(kind: Kind, value: Any) -> BaseException | None:
    """What one input raises; None where it is well answered."""

    def hangs(*_: object) -> None:
        raise TimeoutError(f"no answer within {WORKING} s of work or {WAITING} s")

    clocks = {signal.SIGPROF: (signal.ITIMER_PROF, WORKING), signal.SIGALRM: (signal.ITIMER_REAL, WAITING)}
    before = {number: signal.signal(number, hangs) for number in clocks}
    for clock, seconds in clocks.values():
        signal.setitimer(clock, seconds)
    try:
        # `main` would take SIGTERM for its own: it is to end these trials.
        with tempfile.TemporaryDirectory() as folder, patch.object(signal, "signal"):
            kind.check(value, Path(folder))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it raises is what is looked for
        return error
    finally:
        for number, (clock, _) in clocks.items():
            signal.setitimer(clock, 0)
            signal.signal(number, before[number])
    return None
