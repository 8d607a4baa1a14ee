"""Parts of a work are done by forks: found in order, errors raised, nothing left running."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from select import select

import pytest

from profiler.errors import UserError
from profiler.machine.side_by_side import side_by_side

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


SLEEPS = """
import os, time
from profiler.machine.side_by_side import side_by_side
side_by_side([lambda: os.write(1, b"on\\n") and time.sleep(600)] * 2)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_none_outlives_the_process_that_began_it(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == [b"on\n"] * 2
    process.send_signal(number)  # to it alone
    assert process.wait(30)
    assert select([process.stdout], [], [], 10)[0] == [process.stdout]  # its end: nobody has it to write to any more
    assert process.stdout.read() == b""
