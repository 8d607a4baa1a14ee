"""Processes of our own, started in one way: none outlives the process that started it, however that one ended.

`python -m profiler.machine.child PARENT MODULE ARGUMENT...` asks the kernel for SIGKILL at the death of its parent
(prctl(2), PR_SET_PDEATHSIG), then becomes MODULE. A thread that watched a pipe would wait for a lock that an import of
torch, or a kernel on the CPU, holds for seconds. The thread that starts a process must live as long as it is needed.
"""

import ctypes
import os
import runpy
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def child_command(module: str, *arguments: str) -> list[str]:
    """The command that runs `module` of this package in a process that ends with this one."""
    return [sys.executable, "-m", "profiler.machine.child", str(os.getpid()), module, *arguments]


def end_with(parent: int) -> None:
    """Let this process end with its `parent`, and now if that is gone already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # An interpreter behind a wrapper has the wrapper for its parent.
    if os.getppid() != parent and not Path("/proc", str(parent)).exists():
        os._exit(1)  # it died before the kernel knew


def main() -> None:
    """Tie this process to its parent, and run the module that the command line names, as `python -m` would."""
    parent, module, *arguments = sys.argv[1:]
    end_with(int(parent))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
