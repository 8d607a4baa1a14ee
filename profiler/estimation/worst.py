"""The answer for a card of which only the memory is known: that of the shipped cards which needs most."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from profiler.data.records import CallEstimate
from profiler.data.units import GIB, format_bytes, parse_bytes
from profiler.errors import LatentmeterError
from profiler.machine.cards import cards_of

RANKS = ("fits", "tight", "does not fit")
Found = TypeVar("Found", bound=CallEstimate)


def worst_of(vram: str, ask: Callable[[str], Found]) -> tuple[str, Found]:
    """The id of the worst card sold with `vram` and what `ask` estimates for it: what fits least, then what reserves most.

    One card of each architecture is asked; one that does not take the workload is left out. Raises LatentmeterError where
    none takes it.
    """
    cards, found, refused = cards_of(parse_bytes(vram)), {}, {}
    for card in cards:
        try:
            found[card.id] = ask(card.id)
        except LatentmeterError as error:
            refused[card.id] = error
    if not found:
        raise next(iter(refused.values()))
    worst = max(found, key=lambda one: (RANKS.index(found[one].verdict or "fits"), found[one].peak.reserved_bytes or 0))
    notes = {"stack.card": which_cards(vram, found, worst, refused)} | found[worst].notes
    return worst, replace(found[worst], notes=notes)


def which_cards(vram: str, asked: Iterable[str], worst: str, refused: Mapping[str, LatentmeterError]) -> str:
    """Which cards a memory stands for, and the one that needs most."""
    size = parse_bytes(vram)
    box = (cards_of(size)[0].box_gib or 0) * GIB
    larger = "" if box == size else f" (the next larger memory that cards have is {format_bytes(box)})"
    others = "".join(f"; {one} does not take it: {error}" for one, error in refused.items())
    of = f"for {format_bytes(size)} of memory{larger}, of {', '.join(asked)}"
    return f"{of} the one that needs most: {worst}; --gpu names yours{others}"
