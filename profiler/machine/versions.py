"""Releases of torch and cuDNN: which exist, which go together, and how far the rules here were looked at."""

import re
from dataclasses import replace

from profiler.data.stack import Stack, format_cudnn
from profiler.errors import UserError, check_kind

# Each minor release of torch 2 that was there on 2026-11-26, with its last patch.
LAST_PATCH = {
    0: 1, 1: 2, 2: 2, 3: 1, 4: 1, 5: 1, 6: 0, 7: 1, 8: 0, 9: 1, 10: 0, 11: 0, 12: 1, 13: 0, 14: 1, 15: 0,
}  # fmt: skip
NEWEST = f"2.{max(LAST_PATCH)}.{LAST_PATCH[max(LAST_PATCH)]}"
FIRST_RULES, LAST_RULES = (2, 6), (2, 13)  # the releases whose kernels and allocator the rules were read from

# cuDNN that the default wheel of each torch release brings, from the wheels' metadata; the newest not above applies.
BUNDLED_CUDNN = {
    (2, 0): 8500, (2, 1): 8902, (2, 4): 90100, (2, 6): 90100, (2, 7): 90501, (2, 8): 91002, (2, 9): 91002, (2, 10): 91002,
    (2, 11): 91900, (2, 12): 92000, (2, 13): 92000, (2, 14): 92400, (2, 15): 92600,
}  # fmt: skip
AHEAD = 2  # minor releases that may be out by now


def check_torch(text: str | None) -> str:
    """A release of torch without its build suffix. Raises UserError that names those there are."""
    check_kind("torch", text, str, "'2.7.1'")
    match = re.fullmatch(r"2\.(\d{1,3})(?:\.(\d{1,3}))?((?:a|b|rc|\.dev|\.post)\d+)?(?:\+.*)?", text or "")
    there = f"there are 2.0.0 to {NEWEST}"
    if match is None:
        raise UserError(f"torch: expected a release such as 2.7.1, got {text!r}; {there}")
    minor, patch = int(match[1]), int(match[2] or 0)
    if minor > max(LAST_PATCH) + AHEAD or patch > LAST_PATCH.get(minor, 0) + 1:
        known = f"the last of torch 2.{minor} is 2.{minor}.{LAST_PATCH[minor]}" if minor in LAST_PATCH else there
        raise UserError(f"torch: there is no release {text}; {known}")
    assert text is not None
    return text.split("+")[0]


def check_cudnn(version: int, release: tuple[int, int, int]) -> None:
    """Raise UserError for a cuDNN that there is not, or that torch would not load."""
    check_kind("cudnn", version, int, "90501")
    newest = max(BUNDLED_CUDNN.values())
    plausible = 8500 <= version <= 8907 or 90000 <= version < newest + 100 * (AHEAD + 1)
    if not plausible or version % 100 > 9:
        raise UserError(
            f"cuDNN: there is no version {version}; expected the integer that torch prints, such as 90501 for 9.5.1: "
            f"8500 to 8907, or 90000 to {newest}"
        )
    wanted = bundled_cudnn(release)
    if (version < 90000) != (wanted < 90000):
        raise UserError(
            f"cuDNN: torch {'.'.join(map(str, release))} is built with cuDNN {format_cudnn(wanted)} and refuses "
            f"{format_cudnn(version)}: another major version"
        )


def bundled_cudnn(release: tuple[int, int, int]) -> int:
    """cuDNN of torch's default wheel, as torch's integer (90501 is 9.5.1)."""
    known = [key for key in BUNDLED_CUDNN if key <= release[:2]]
    return BUNDLED_CUDNN[max(known)] if known else min(BUNDLED_CUDNN.values())


def with_torch(stack: Stack, torch: str, cudnn: int | None = None) -> Stack:
    """`stack` with another torch and, unless one is named, the cuDNN of its wheel."""
    changed = replace(stack, torch=torch)
    return replace(changed, cudnn=cudnn or bundled_cudnn(changed.torch_release))


def say_torch(stack: Stack) -> str:
    """What is to be said of an estimate for this release of torch; empty where its rules were looked at."""
    release = stack.torch_release[:2]
    if FIRST_RULES <= release <= LAST_RULES:
        return ""
    ends = ".".join(map(str, FIRST_RULES)), ".".join(map(str, LAST_RULES))
    known = "" if release[1] in LAST_PATCH else f"; no such release was there when this was written (newest: {NEWEST})"
    return (
        f"torch {stack.torch} is unverified: kernels and allocator were looked at from {ends[0]} to {ends[1]}, "
        f"and what changed outside of them is not priced{known}"
    )


def say_old_cudnn(stack: Stack) -> str:
    """That torch's own wheel would not load a cuDNN older than the one it was built with; empty where it would."""
    wanted = bundled_cudnn(stack.torch_release)
    if stack.cudnn is None or stack.cudnn // 100 >= wanted // 100:
        return ""
    return f"torch {stack.torch}'s own wheel is built with cuDNN {format_cudnn(wanted)} and refuses an older one"
