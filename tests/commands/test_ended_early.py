"""Ctrl-C before the command line is there, and beside click: an end without a traceback."""

import signal
import subprocess
import sys

import pytest

from profiler.commands import main

# `profiler` is there; the next import of `profiler.__main__` is when the user grows impatient.
IMPATIENT = """
import os, runpy, signal, sys, profiler
class Finder:
    def find_spec(self, name, *rest):
        if name == "profiler.commands.main":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
runpy.run_module("profiler", run_name="__main__")
"""


def test_ctrl_c_while_modules_are_read_ends_it_without_a_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", IMPATIENT], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (main.Terminated, 143)])
def test_an_interrupt_beside_click_is_one_line(
    stop: type[BaseException], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.setattr(main.cli, "main", interrupted)
    monkeypatch.setattr(sys, "argv", ["latentmeter"])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        main.main()
    signal.signal(signal.SIGTERM, before)
    assert (end.value.code, capsys.readouterr().err) == (code, "latentmeter: interrupted\n")
