"""Errors that a user can act on. The command line turns each into one message and an exit code, in one place."""

import traceback
from pathlib import Path

NOT_OWN = (str(Path(__file__).parent), "/lib/python3", "<frozen")  # this package, installed ones, Python itself


class LatentmeterError(Exception):
    """Base of every error whose message is meant for the user."""


class UserError(LatentmeterError, ValueError):
    """A request that cannot be met as given; the message names the alternatives."""


class NoKernelError(UserError, RuntimeError):
    """None of the attention kernels that are switched on can run a call. A RuntimeError too, as torch's own is."""


class ModelError(LatentmeterError):
    """A model description that diffusers cannot build or run; the message names the class and the cause."""


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing. The rest may be a stack of C++."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def kind_and_line(error: BaseException) -> str:
    """An error as Python tells it, in one line: its kind, what it says, and the last line of the user's own code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not any(part in frame.filename for part in NOT_OWN)]
    said, kind = first_line(error), type(error).__name__
    where = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in own[-1:])
    return f"{kind}: {said}".removesuffix(f": {kind}") + where


def check_text(name: str, text: str) -> None:
    """Raise UserError where `text` is a name in bytes that are no UTF-8: no page, no record and no terminal can show it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{name}: {text!r} is not UTF-8; rename the file or the folder") from error


def check_kind(name: str, value: object, kind: type, example: str) -> None:
    """Raise UserError, with an example, where `value` is given and is no `kind`; True and False are no numbers."""
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        wanted = {str: "text", int: "a whole number"}.get(kind, f"a {kind.__name__}")
        raise UserError(f"{name}: expected {wanted}, such as {example}, got {type(value).__name__} {value!r:.60}")


# What the code of somebody else's model raises when a size, an option or a config does not suit it.
MODEL_FAILURES = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
