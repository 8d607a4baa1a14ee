"""What several commands print: tables where standard output is a terminal, the same text without colour elsewhere."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from profiler.data.memory import TERMS, Memory
from profiler.data.records import AppliedOption, CallEstimate, Measurement
from profiler.data.shown import first_notes, group_notes
from profiler.data.text import visible
from profiler.data.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 160


def console() -> "Console":
    """Standard output. Model names and messages are other people's text: markup and control characters do nothing."""
    from rich.console import Console
    from rich.text import Text

    class Harmless(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            return super().render_str(visible(text), **how)

    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    return Harmless(markup=False, emoji=False, highlight=False, width=width, soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table without lines; a row may have fewer cells than there are columns."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "default", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def show_levels(levels: Mapping[str, Memory]) -> None:
    """Allocated, reserved and device bytes, a row a level such as `baseline` or `peak`."""
    print_table(
        ["", "allocated", "reserved", "device"],
        [
            [name, *map(format_bytes, (level.allocated_bytes, level.reserved_bytes, level.device_bytes))]
            for name, level in levels.items()
        ],
    )


def show_breakdown(
    found: CallEstimate | Measurement, first: Sequence[Sequence[str]] = (), whose: str = "made in"
) -> None:
    """The terms at the peak; the largest tensors that are alive there, after the rows `first`, and `whose` they are."""
    terms = ", ".join(f"{name} {format_bytes(getattr(found.terms, name))}" for name in TERMS)
    console().print(f"terms at the peak: {terms}")
    rows = [[format_bytes(t.bytes), *t.form, t.term, f"{t.module} {t.op}".strip()] for t in found.largest]
    print_table(["alive at the peak", "shape", "dtype", "term", whose], [*first, *rows])


def show_options(options: Mapping[str, AppliedOption]) -> None:
    """One line a memory option: what became of it."""
    for name, option in options.items():
        console().print(f"option {name}: {option.detail}")


def show_first_notes(notes: Mapping[str, str]) -> None:
    """A line for each note that stands before the figures."""
    for text in first_notes(notes).values():
        console().print(f"note: {text}", style="bold")


def show_notes(notes: Mapping[str, str]) -> None:
    """One line a reason, with all the figures that it is about; without those that stand before the figures."""
    first = first_notes(notes)
    for line in group_notes({name: text for name, text in notes.items() if name not in first}):
        console().print(f"note: {line}")
