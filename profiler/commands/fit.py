"""`latentmeter fit`: does it fit on this card, and what has to be set so that it does."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

import profiler
from profiler.commands.generation import told_on_terminal
from profiler.commands.options import EXIT_FAILED, card_options, emit, gather, json_option, search_options
from profiler.commands.tables import console, print_table, show_first_notes, show_notes
from profiler.data.text import for_markdown
from profiler.data.units import GIB, format_bytes, parse_bytes
from profiler.errors import LatentmeterError, UserError
from profiler.machine.side_by_side import side_by_side

if TYPE_CHECKING:
    from profiler.search.result import Fit, Way


@click.command()
@click.argument("model")
@search_options
@card_options
@click.option("--ram", metavar="SIZE", help="What the host may give: 32GiB. Default: without limit.")
@click.option("--allow", metavar="NAMES", help="The changes that may be made, as tiling,offload. Default: all.")
@click.option("--cards", metavar="GIB", help="A row for each memory, as 8,12,24: a table to paste.")
@click.option("--no-cache", is_flag=True, help="Trace anew; neither read nor keep anything on disk.")
@json_option
def fit(model: str, allow: str | None, cards: str | None, no_cache: bool, as_json: bool, **values: Any) -> None:
    """What to set so that MODEL runs on a card: the plainest settings, the code to paste, and the alternatives.

    A pipeline is answered as a whole generation, or for its --stage alone; a model that is no pipeline for its decode. What
    is set here stays; one of --frames, --height, --width, --batch may be max. Exit code 0: it fits or is tight, with --cards
    on one of them; 1: it does not fit; 2: a mistake.
    """
    asked = gather(values)
    how: dict[str, Any] = {"allow": () if allow is None else allow, "cache": not no_cache}
    with told_on_terminal() as tell:
        if cards is not None:
            sizes = _sizes_of(cards, asked)
            tell(f"{model} on {', '.join(map(str, sizes))} GiB, side by side")
            rows = side_by_side([partial(_row, model, size, asked | how) for size in sizes])
            found = None
        else:
            found = profiler.fit(model, **asked, **how, tell=tell)
    if found is None:
        emit({"model": model, "cards": rows}, as_json, lambda _: show_cards(model, rows))
        sys.exit(0 if any(row.get("fits") for row in rows) else EXIT_FAILED)
    emit(found.to_dict(), as_json, lambda _: show_fit(found))
    if not found.fits:
        sys.exit(EXIT_FAILED)


def _sizes_of(cards: str, asked: dict[str, Any]) -> list[int]:
    if asked.get("gpu") or asked.get("vram"):
        raise UserError("cards: names memories by itself; leave out --gpu and --vram")
    sizes = dict.fromkeys(map(parse_bytes, cards.split(",")))
    if any(size % GIB for size in sizes):
        raise UserError(f"cards: {cards!r} is no list of whole GiB, such as 8,12,24")
    return [size // GIB for size in sizes]


def _row(model: str, size: int, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        found = profiler.fit(model, **asked | {"vram": f"{size}GiB", "gpu": None})
    except UserError:
        raise
    except LatentmeterError as error:
        return {"gib": size, "error": str(error)}
    return {"gib": size} | found.to_dict()


def show_cards(model: str, rows: Sequence[dict[str, Any]]) -> None:
    """A Markdown table, a row a memory."""
    out = console()
    out.print(f"| card | {model} | settings | reserved | host |")
    out.print("|---|---|---|---|---|")
    for row in rows:
        if "error" in row:
            out.print(f"| {row['gib']} GiB | unknown | {for_markdown(row['error'])} | | |")
            continue
        settings = f"`{row['title']}`" if row["fits"] else "; ".join(row["would_fit"]) or "-"
        host = "-" if row["host_bytes"] is None else format_bytes(row["host_bytes"])
        figures = f"{format_bytes(row['reserved_bytes'])} | {host}"
        out.print(f"| {row['gib']} GiB ({row['gpu']}) | {row['verdict']} | {settings} | {figures} |")


def show_fit(found: "Fit") -> None:
    """The answer in one line, the code, then every way that is worth it."""
    out = console()
    out.print(found.line, style="bold")
    if found.largest:
        out.print(_largest(found.largest), style="bold")
    show_first_notes(found.notes)
    for line in found.would_fit:
        out.print(f"would fit: {line}")
    if found.way.note:
        out.print(f"{found.verdict}: {found.way.note}")
    if found.fits:
        out.print("")
        out.print(found.code)
        out.print("")
        ways = [found.way, *found.alternatives]
        print_table(["settings", "verdict", "allocated", "reserved", "free", "host", "costs"], map(_way, ways))
        most = format_bytes(found.way.safe_reserved_bytes)
        out.print(f"what another past of the process may reserve at most: {most}")
    for what, why in found.left_out.items():
        out.print(f"left out: {what}: {why}")
    show_notes(found.notes)
    out.print(f"in full: {found.way.command}")
    out.print("nothing was measured")


def _largest(found: dict[str, Any]) -> str:
    if found["value"] is None:
        return f"no {found['free']} fit, not even the least"
    if found["next"] is None:
        return f"{found['free']}: {found['value']}, the most that is tried"
    missing = f": {format_bytes(found['missing_bytes'])} too many" if found["missing_bytes"] else ""
    if found["untried"]:
        between = f"{found['untried']} between were not tried: each takes a trace of the whole generation"
        return f"{found['free']}: {found['value']} fits; {found['next']} does not{missing}; {between}"
    return f"{found['free']}: {found['value']} at most; the next, {found['next']}, does not fit{missing}"


def _way(way: "Way") -> list[str]:
    host = "-" if way.host_bytes is None else format_bytes(way.host_bytes)
    sizes = [way.peak.allocated_bytes, way.reserved_bytes, way.headroom_bytes]
    return [way.title, way.verdict, *map(format_bytes, sizes), host, "; ".join(way.costs) or "nothing"]
