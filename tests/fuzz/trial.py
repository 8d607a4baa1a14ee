"""Tries a kind of inputs: each in a folder of its own, and within a time."""

import signal
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Protocol

SECONDS = 60  # of one input: beyond, it hangs


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
        raise TimeoutError(f"no answer within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(SECONDS)
    try:
        with tempfile.TemporaryDirectory() as folder:
            kind.check(value, Path(folder))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it raises is what is looked for
        return error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return None
