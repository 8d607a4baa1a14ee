"""Parts of a work that do not need each other, one a core: each is done in a fork of this process, which has all of it."""

import os
import pickle
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from profiler.machine.child import end_with

Found = TypeVar("Found")
_parts: Sequence[Callable[[], Any]] = ()  # of a fork, which does them by their numbers: functions need not be pickled
_is_fork = False  # which has a core of its own, and no other


def side_by_side(parts: Sequence[Callable[[], Found]]) -> list[Found]:
    """What each of `parts` finds, in their order. Found things are pickled; what a part changes is its fork's alone.

    One after the other where there is one core, where a fork would lack what this process has, an open CUDA context, or
    where one was killed or could not be made, for want of memory. Raises what the first part that fails raises.
    """
    processes = min(len(parts), _cores())
    if processes < 2:
        return [part() for part in parts]
    import multiprocessing  # not for who only asks for help
    from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

    fork = multiprocessing.get_context("fork")
    others = multiprocessing.active_children()
    with ProcessPoolExecutor(processes, fork, _begin, (parts, os.getpid())) as pool:
        try:
            return list(pool.map(_do, range(len(parts))))
        except BaseException as error:  # who stops this does not wait for what still runs
            for child in multiprocessing.active_children():
                if child not in others:
                    child.kill()
                    child.join()
            if not isinstance(error, (BrokenProcessPool, OSError)):  # the second where a fork could not be made
                raise
    return [part() for part in parts]


class Beside(Generic[Found]):
    """A part that a fork does while this process goes on, until `found` asks for it. What it finds is pickled.

    It is done here, when it is asked for, where there is one core, where it is not `worth` a fork, and where that failed.
    """

    def __init__(self, part: Callable[[], Found], *, worth: bool = True) -> None:
        self._part, self._here, self._fork = part, os.getpid(), 0
        if not worth or _cores() < 2:
            return
        self._pipe, write = os.pipe()
        try:
            self._fork = os.fork()
        except OSError:  # no memory for another process
            os.close(self._pipe)
            os.close(write)
            return
        if self._fork:
            os.close(write)
            return
        try:
            _begin((), self._here)
            with os.fdopen(write, "wb") as pipe:
                pipe.write(pickle.dumps(part()))
        finally:  # whatever it raises, nothing of the parent's goes on here
            os._exit(0)

    def found(self) -> Found:
        """What the part finds, to be asked for once. Raises what it raises."""
        data = b""
        if self._is_running():
            with os.fdopen(self._pipe, "rb") as pipe:
                data = pipe.read()
            self._end()
        return pickle.loads(data) if data else self._part()

    def __del__(self) -> None:
        if self._is_running():
            os.kill(self._fork, signal.SIGKILL)
            os.close(self._pipe)
            self._end()

    def _is_running(self) -> bool:
        """Whether there is a fork, of this very process: other forks have the number, and no right to it."""
        return self._fork > 0 and os.getpid() == self._here

    def _end(self) -> None:
        os.waitpid(self._fork, 0)
        self._fork = 0


def _cores() -> int:
    """How many forks may work at once: one in a fork, with one core, and where forks would lack an open CUDA context."""
    torch = sys.modules.get("torch")
    has_cuda = torch is not None and torch.cuda.is_initialized()
    return 1 if _is_fork or has_cuda or sys.platform != "linux" else len(os.sched_getaffinity(0))


def _begin(parts: Sequence[Callable[[], Any]], parent: int) -> None:
    """Set a fork up: it ends with its parent, and takes one core."""
    global _parts, _is_fork
    _parts, _is_fork = parts, True
    end_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # threads are not forked: OpenMP would wait for them


def _do(number: int) -> Any:
    return _parts[number]()
