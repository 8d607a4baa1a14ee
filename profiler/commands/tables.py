"""Prints answers for a person: tables where standard output is a terminal, the same text without colour elsewhere."""

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from profiler.data.records import TERMS, Estimate, Measurement, Memory
from profiler.data.units import format_bytes

PLAIN_WIDTH = 160


def console() -> Console:
    """Standard output, markup off: model names and messages are other people's text."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    return Console(markup=False, highlight=False, width=width, soft_wrap=True)


def show_levels(levels: Mapping[str, Memory]) -> None:
    table = new_table("", "allocated", "reserved", "device")
    for name, level in levels.items():
        table.add_row(
            name, *[format_bytes(n) for n in (level.allocated_bytes, level.reserved_bytes, level.device_bytes)]
        )
    console().print(table)


def show_breakdown(found: Estimate | Measurement) -> None:
    out = console()
    out.print("terms at the peak: " + ", ".join(f"{name} {format_bytes(getattr(found.terms, name))}" for name in TERMS))
    if found.peak_at is not None:
        out.print(f"peak at {found.peak_at.module or 'the stage itself'}: {found.peak_at.op}")
    table = new_table("alive at the peak", "shape", "dtype", "term", "made in")
    for item in found.largest:
        shape = "x".join(map(str, item.shape))
        table.add_row(format_bytes(item.bytes), shape, item.dtype, item.term, f"{item.module} {item.op}".strip())
    out.print(table)


def show_notes(notes: Mapping[str, str]) -> None:
    """One line a reason, with all the figures that it is about."""
    about: dict[str, list[str]] = {}
    for name, reason in notes.items():
        about.setdefault(reason, []).append(name)
    for reason, names in about.items():
        console().print(f"note: {', '.join(names)}: {reason}")


def new_table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "default", overflow="fold")
    return table
