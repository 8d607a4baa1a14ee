"""`-v`: what a command does, said on standard error while it does it; `--debug`: an error with its traceback.

Without them nothing is said. Modules of this package log to `logging.getLogger(__name__)`, below the logger `profiler`; a
program that uses the package reads the same lines by configuring that logger.
"""

import logging
from typing import Any

import click

from profiler.commands.options import together
from profiler.data.text import visible


class _Visible(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _listen(context: click.Context, option: click.Parameter, times: int) -> None:
    """Say what happens until the command ends: `-v` the steps, `-vv` details too."""
    logger, handler = logging.getLogger("profiler"), logging.StreamHandler()  # writes to standard error
    if not times or logger.handlers:  # given before the command and after it: once is enough
        return
    logger.setLevel(logging.INFO if times == 1 else logging.DEBUG)
    handler.setFormatter(_Visible("%(name)s: %(message)s"))
    logger.addHandler(handler)
    context.call_on_close(lambda: logger.removeHandler(handler))
    context.call_on_close(lambda: logger.setLevel(logging.NOTSET))


def _debug(context: click.Context, option: click.Parameter, asked: bool) -> None:
    """Note for `main`, which shows the error, that its traceback is wanted."""
    if asked:
        context.ensure_object(dict)["debug"] = True


_unseen: dict[str, Any] = {"expose_value": False, "is_eager": True}  # by the command itself
_said = "Say on standard error what is done; -vv says more."
verbose_option = together(
    click.option("-v", "--verbose", count=True, callback=_listen, **_unseen, help=_said),
    click.option("--debug", is_flag=True, callback=_debug, **_unseen, help="Show an error's traceback."),
)
