"""Parts of a work are done by forks: found in order, errors raised, nothing left running."""

import errno
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from select import select

import pytest

from profiler.errors import UserError
from profiler.machine.side_by_side import Beside, side_by_side

if len(os.sched_getaffinity(0)) < 2:
    pytest.skip("one core: parts come one after the other", allow_module_level=True)


def test_parts_are_done_by_other_processes_and_found_in_order() -> None:
    found = side_by_side([lambda n=n: (n, os.getpid()) for n in range(6)])  # type: ignore[misc]
    assert [n for n, _ in found] == [*range(6)]
    assert os.getpid() not in {process for _, process in found}
    assert not multiprocessing.active_children()


def test_a_single_part_needs_no_other_process() -> None:
    assert side_by_side([os.getpid]) == [os.getpid()]
    assert side_by_side([]) == []


def test_the_error_of_a_part_is_raised_and_the_others_are_ended() -> None:
    def refuse() -> None:
        raise UserError("no such size")

    started = time.monotonic()
    with pytest.raises(UserError, match="no such size"):
        side_by_side([refuse, partial(time.sleep, 60)])
    assert time.monotonic() - started < 30
    assert not multiprocessing.active_children()


def test_parts_whose_process_was_killed_are_done_here() -> None:
    """As the kernel does where memory is short: then one process has room where two had none."""
    here = os.getpid()

    def part() -> int:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    assert side_by_side([part, part]) == [here, here]


def test_parts_are_done_here_where_there_is_no_memory_for_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a heap has grown beyond the machine's memory, though most of it was never touched."""

    fork = os.fork

    def refuse() -> int:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(os, "fork", refuse)
    opened = [*Path("/proc/self/fd").iterdir()]
    assert Beside(os.getpid).found() == os.getpid()
    assert len([*Path("/proc/self/fd").iterdir()]) == len(opened)
    assert side_by_side([os.getpid, os.getpid]) == [os.getpid()] * 2
    forks = [fork, refuse]  # the second alone: the first, which waits for work that never comes, is ended
    monkeypatch.setattr(os, "fork", lambda: forks.pop(0)())
    assert side_by_side([os.getpid, os.getpid]) == [os.getpid()] * 2
    assert not multiprocessing.active_children()


def test_a_part_is_done_beside_this_process_and_found_when_asked_for() -> None:
    begun = time.monotonic()
    parts = [Beside(lambda: time.sleep(1) or os.getpid()) for _ in range(2)]
    assert time.monotonic() - begun < 1
    assert len({os.getpid(), *(part.found() for part in parts)}) == 3
    with pytest.raises(ChildProcessError):  # each was waited for
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("how", ["not worth a fork", "in a fork", "killed", "of another process"])
def test_a_part_is_done_by_who_asks_where_no_fork_can(how: str) -> None:
    here = os.getpid()

    def part() -> int:
        if how == "killed" and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    if how == "in a fork":
        for who, did in side_by_side([lambda: (os.getpid(), Beside(part).found())] * 2):
            assert who == did
    elif how == "of another process":  # whose pipe it would empty
        beside = Beside(part)
        for who, did in side_by_side([lambda: (os.getpid(), beside.found())] * 2):
            assert who == did
        assert beside.found() not in (0, here)
    else:
        assert Beside(part, worth=how != "not worth a fork").found() == here


def test_the_error_of_a_part_beside_is_raised_where_it_is_asked_for() -> None:
    def refuse() -> None:
        raise UserError("no such size")

    beside = Beside(refuse)
    with pytest.raises(UserError, match="no such size"):
        beside.found()


def test_a_part_that_nobody_asks_for_is_ended() -> None:
    beside = Beside(partial(time.sleep, 600))
    process = beside._fork
    del beside
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


SLEEPS = """
import os, time
from profiler.machine.side_by_side import Beside, side_by_side
part = lambda: os.write(1, b"on\\n") and time.sleep(600)
{begin}
"""
BEGIN = {"parts": "side_by_side([part] * 2)", "beside": "both = Beside(part), Beside(part)\ntime.sleep(600)"}


@pytest.mark.parametrize("begin", BEGIN)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_none_outlives_the_process_that_began_it(number: signal.Signals, begin: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPS.format(begin=BEGIN[begin])],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == [b"on\n"] * 2
    process.send_signal(number)  # to it alone
    assert process.wait(30)
    assert select([process.stdout], [], [], 10)[0] == [process.stdout]  # its end: nobody has it to write to any more
    assert process.stdout.read() == b""
