"""Parts of a work that do not need each other, one a core: each is done in a fork of this process, which has all of it."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from profiler.machine.child import end_with

Found = TypeVar("Found")
_parts: Sequence[Callable[[], Any]] = ()  # of a fork, which does them by their numbers: functions need not be pickled


def side_by_side(parts: Sequence[Callable[[], Found]]) -> list[Found]:
    """What each of `parts` finds, in their order. Found things are pickled; what a part changes is its fork's alone.

    One after the other where there is one core, where a fork would lack what this process has, an open CUDA context, or
    where one was killed, as for want of memory. Raises what the first part that fails raises.
    """
    processes = min(len(parts), len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1)
    if processes < 2 or _has_cuda():
        return [part() for part in parts]
    import multiprocessing  # not for who only asks for help
    from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

    fork = multiprocessing.get_context("fork")
    others = multiprocessing.active_children()
    with ProcessPoolExecutor(processes, fork, _begin, (parts, os.getpid())) as pool:
        try:
            return list(pool.map(_do, range(len(parts))))
        except BrokenProcessPool:
            return [part() for part in parts]
        except BaseException:  # who stops this does not wait for what still runs
            for child in multiprocessing.active_children():
                if child not in others:
                    child.kill()
            raise


def _begin(parts: Sequence[Callable[[], Any]], parent: int) -> None:
    """Set a fork up: it ends with its parent, and takes one core."""
    global _parts
    _parts = parts
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # threads are not forked: OpenMP would wait for them


def _do(number: int) -> Any:
    return _parts[number]()


def _has_cuda() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()
