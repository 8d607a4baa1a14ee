"""`latentmeter cards`: what can be named with --gpu."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from profiler.commands.options import emit, json_option
from profiler.commands.tables import console, print_table
from profiler.data.units import format_bytes

if TYPE_CHECKING:
    from profiler.machine.cards import Gpu


@dataclass(frozen=True)
class Listed:
    """A card, and whose plans stand for it: `own`, the id of a sibling, or `near`."""

    card: "Gpu"
    plans: str


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
        rows.append(Listed(card, "own" if card.id in shipped else found.id if found else "near"))
    plain = [row.card.model_dump(exclude={"properties", "reserve_bytes"}) | {"plans": row.plans} for row in rows]
    emit({"cards": plain}, as_json, lambda _: show_cards(rows))


def show_cards(rows: Sequence[Listed]) -> None:
    """One row a card, by architecture and memory."""
    ordered = sorted(rows, key=lambda row: (row.card.capability, row.card.total_bytes, row.card.id))
    print_table(
        ["card", "name", "architecture", "multiprocessors", "box", "total", "which is", "plans"],
        [
            [
                *(card.id, card.name, ".".join(map(str, card.capability)), str(card.multiprocessors)),
                *(f"{card.box_gib} GiB", format_bytes(card.total_bytes)),
                "derived" if card.sources["total_bytes"].startswith("derived") else "read",
                row.plans,
            ]
            for row in ordered
            for card in [row.card]
        ],
    )
    console().print(
        "--gpu takes the id, the name that torch prints, or a file that `latentmeter doctor --dump-card` wrote."
    )
