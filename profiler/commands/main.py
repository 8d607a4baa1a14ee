"""The command line: parse, call, print. Heavy libraries are imported by the command that needs them."""

import errno
import gc
import os
import signal
import sys
import tempfile
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import click

from profiler._version import __version__
from profiler.commands.options import EXIT_FAILED, EXIT_USER
from profiler.commands.verbose import verbose_option
from profiler.data.text import visible
from profiler.errors import LatentmeterError, UserError, check_text, first_line

EXIT_OURS, EXIT_INTERRUPTED, EXIT_TERMINATED = 3, 128 + signal.SIGINT, 128 + signal.SIGTERM
EXIT_CODES = """\b
Exit codes:
  0    done
  1    nothing fits, a case failed or fell outside its tolerance, a model cannot run, or the machine cannot go on (disk full)
  2    a mistake in what was asked: an option, a size, a file, a place to write to
  3    an error of latentmeter itself; the message names the log with its traceback
  130  interrupted (Ctrl-C)
  143  terminated (SIGTERM)
"""
# What the system refuses because of the name that it was given; anything else is the machine's state.
MISTAKEN = {
    errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS,
}  # fmt: skip
WAY_OUT = {
    errno.ENOENT: "was it, or its folder, removed while this ran?",
    errno.ENOSPC: "free some space or name another place; what was saved before is whole",
    errno.EACCES: "name another place, or run as a user who may",
    errno.EROFS: "name another place",
}


class Terminated(KeyboardInterrupt):
    """SIGTERM, as Slurm and CI send it: all that Ctrl-C does."""


NAMES = (  # each the name of a file and of the command in it
    "latent", "models", "estimate", "fit", "recordings", "measure", "hotspots", "run", "report", "explain", "compare",
    "accuracy", "coverage", "cards", "doctor",
)  # fmt: skip


class Commands(click.Group):
    """Reads the file of a command when that is asked for, and all of them only for the help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in NAMES and cmd_name not in self.commands:
            command = getattr(import_module(f"profiler.commands.{cmd_name}"), cmd_name)
            self.add_command(verbose_option(command))  # of each command too: it is typed last
        return super().get_command(ctx, cmd_name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="latentmeter")
@verbose_option
def cli() -> None:
    """How much GPU memory a latent diffusion model needs: estimated, measured, compared."""


def _terminate(number: int, frame: object) -> None:
    raise Terminated


def main() -> None:
    """Run the command line. The one place where an error becomes a message and an exit code."""
    gc.set_threshold(100_000)  # an answer makes objects by the million, of which few stand in cycles
    signal.signal(signal.SIGTERM, _terminate)  # workers and temporary files go, as at the end
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # not where the shell ignores it, as in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(sys.stdout, "reconfigure"):  # not every terminal knows every character
        sys.stdout.reconfigure(errors="backslashreplace")
    asked: dict[str, bool] = {}
    try:
        for word in sys.argv[1:]:
            check_text("command line", word)
        try:
            cli.main(standalone_mode=False, obj=asked)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where an error has a name: the disk may be full
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever it is, it ends here
        sys.exit(tell(error, debug=asked.get("debug", False)))


def tell(error: BaseException, *, debug: bool) -> int:
    """Say what `error` is, in one message on standard error; with `debug` its traceback before. Returns the exit code."""
    if isinstance(error, click.Abort) and isinstance(error.__cause__, EOFError):
        error = error.__cause__  # click takes the end of any file for the end of the keyboard
    if isinstance(error, OSError):
        # What could not be written would be tried again at the very end.
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    code, message = _judge(error)
    with suppress(OSError):  # standard error may be gone or full too; the exit code is left
        if debug:
            traceback.print_exception(error)
        if isinstance(error, click.ClickException):
            error.show()
        elif message:
            click.echo(f"latentmeter: {visible(message)}", err=True)
    return code


def _judge(error: BaseException) -> tuple[int, str]:
    """The exit code, and what is said."""
    match error:
        case click.ClickException():
            return error.exit_code, ""
        case click.Abort() | KeyboardInterrupt():
            stop = error.__cause__ or error  # click has its own name for what it caught; outside of it there is none
            how_to_go_on = getattr(stop, "__notes__", ())
            code = EXIT_TERMINATED if isinstance(stop, Terminated) else EXIT_INTERRUPTED
            return code, "\n".join(["interrupted", *how_to_go_on])
        case BrokenPipeError():
            return EXIT_FAILED, ""  # who reads has read enough
        case LatentmeterError():
            return EXIT_USER if isinstance(error, UserError) else EXIT_FAILED, str(error) or type(error).__name__
        case OSError(errno=number) if number is not None:
            place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
            way_out = f"; {WAY_OUT[number]}" if number in WAY_OUT else ""
            return EXIT_USER if number in MISTAKEN else EXIT_FAILED, f"{place}{error.strerror}{way_out}"
        case MemoryError():
            return EXIT_FAILED, "this machine's memory is used up; ask for a smaller size, or end what else runs"
    what = f"an error of latentmeter itself, none of yours: {type(error).__name__}: {first_line(error)}"
    return EXIT_OURS, f"{what}; {_log(error)}"


def _log(error: BaseException) -> str:
    """Where the traceback is now: in a file, or below the message where no file can be written."""
    about = f"latentmeter {__version__}: {sys.argv}\n{''.join(traceback.format_exception(error))}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="latentmeter-", suffix=".log", delete=False) as log:
            log.write(about.encode(errors="backslashreplace").decode())
    except OSError:
        return f"its traceback:\n{about}"
    return f"its traceback is in {log.name} (--debug shows it here)"
