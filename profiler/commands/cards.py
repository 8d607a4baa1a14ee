"""`latentmeter cards`: what can be named with --gpu."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from profiler.commands.options import emit, json_option
from profiler.commands.tables import console, print_table
from profiler.data.units import format_bytes

if TYPE_CHECKING:
    from profiler.machine.cards import Gpu


@click.command()
@json_option
def cards(as_json: bool) -> None:
    """List the cards that an estimate can be for.

    Plans are `own` where cuDNN's choices for this very card are shipped; a sibling's id where those of a card with the same
    architecture, multiprocessors and shared memory serve; `near` where those of other sizes and cards, or a closed form,
    stand for them. The total is read where somebody's program printed it, else derived from what the box
    says; --json has the source of every value.
    """
    from profiler.machine.cards import gpus, planned, siblings

    shipped, rows = {card.id for card in planned()}, []
    for card in gpus().values():
        found = next(siblings(card.capability, card.multiprocessors, card.properties or {}), None)
        rows.append((card, "own" if card.id in shipped else found.id if found else "near"))
    plain = [vars(card) | {"plans": plans} for card, plans in rows]
    for one in plain:
        del one["properties"], one["reserve_bytes"]
    emit({"cards": plain}, as_json, lambda _: show_cards(rows))


def show_cards(rows: "Sequence[tuple[Gpu, str]]") -> None:
    """One row a card with whose plans stand for it, by architecture and memory."""
    ordered = sorted(rows, key=lambda row: (row[0].capability, row[0].total_bytes, row[0].id))
    print_table(
        ["card", "name", "architecture", "multiprocessors", "box", "total", "which is", "plans"],
        [
            [
                *(card.id, card.name, ".".join(map(str, card.capability)), str(card.multiprocessors)),
                *(f"{card.box_gib} GiB", format_bytes(card.total_bytes)),
                "derived" if card.sources["total_bytes"].startswith("derived") else "read",
                plans,
            ]
            for card, plans in ordered
        ],
    )
    console().print(
        "--gpu takes the id, the name that torch prints, or a file that `latentmeter doctor --dump-card` wrote."
    )
