"""`latentmeter recordings`: traces from which any size near the published one is answered without torch."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

import profiler
from profiler.commands.options import EXIT_FAILED, emit, gather, json_option, stack_options, workload_options
from profiler.commands.tables import console
from profiler.commands.verbose import verbose_option
from profiler.data.text import typed
from profiler.data.units import format_bytes

if TYPE_CHECKING:
    from profiler.estimation.cache import Kept
    from profiler.estimation.recorded import Recorded
    from profiler.estimation.size_functions import Grid


@click.group()
def recordings() -> None:
    """Recordings: traces from which other sizes are answered at once. The catalog's come with the package."""


@recordings.command()
@click.argument("model")
@workload_options
@stack_options
@click.option("--force", is_flag=True, help="Record again where a recording is there.")
@json_option
@verbose_option
def make(model: str, force: bool, as_json: bool, **values: Any) -> None:
    """Record one stage of MODEL, for sizes around the asked and the published one, every batch and every card.

    A catalog model has recordings already; this is for a model of your own, or for other options. Exit code 1 where
    there can be no recording, with the reason.
    """
    found = profiler.make_recording(model, force=force, tell=lambda line: click.echo(line, err=True), **gather(values))
    emit(asdict(found), as_json, lambda _: show_recording(found))
    sys.exit(EXIT_FAILED if found.reason else 0)


def show_recording(found: "Recorded") -> None:
    """For which sizes, in which file, or why not."""
    out = console()
    if not found.grids:
        out.print(f"{found.workload.key}: no recording: {found.reason}")
        return
    how = (
        f"up to date since {found.made}; --force records again" if found.made else f"recorded in {found.seconds:.1f} s"
    )
    out.print(f"{found.workload.key} for {found.stack.title}: {how}")
    for grid in found.grids:
        out.print(said(grid))
    out.print(f"{format_bytes(found.bytes)} in {found.path}")
    asked = found.workload
    switches = {name: value for name, value in vars(asked.options).items() if value}
    switches |= {"device_map": True} if asked.history.device_map else {}
    same = {"stage": asked.stage, "dtype": asked.dtype, "text_length": asked.text_length, "torch": found.stack.torch}
    out.print(f"next: {typed('latentmeter', 'estimate', asked.model, **same, **switches)} --height ... --width ...")


def said(grid: "Grid") -> str:
    """The sizes for which a recording holds: `height 64 to 512 in steps of 8, width 512, frames 1, batch 1 or more`."""
    sides = zip(("height", "width", "frames"), grid.first, grid.last, grid.step, strict=True)
    parts = [f"{name} {a}" if a == b else f"{name} {a} to {b} in steps of {step}" for name, a, b, step in sides]
    batch = "or more" if grid.most is None else "" if grid.most == grid.batch else f"to {grid.most}"
    parts.append(f"batch {grid.batch} {batch}".rstrip())
    parts += [f"{grid.pixels[0]:,} to {grid.pixels[1]:,} pixels"] if grid.pixels else []
    limits = ((grid.images, "images"), (grid.volume, "pixels of all images"))
    parts += [f"at most {limit:,} {what}" for limit, what in limits if limit is not None]
    return ", ".join(parts) + f", but for {len(grid.apart)} of these sizes" * bool(grid.apart)


@recordings.command("list")
@json_option
@verbose_option
def list_(as_json: bool) -> None:
    """The recordings that there are: those that come with the package, and your own."""
    from profiler.estimation.cache import list_kept

    found = list_kept()
    emit({"recordings": [asdict(item) for item in found]}, as_json, lambda _: show_list(found))


def show_list(found: "list[Kept]") -> None:
    """A line each for one's own, one in all for those shipped."""
    out = console()
    shipped = [item for item in found if item.shipped]
    size = format_bytes(sum(item.bytes for item in shipped))
    out.print(f"{len(shipped)} stages of the catalog come with the package, {size}")
    for item in found:
        if not item.shipped:
            out.print(f"{item.of}: {format_bytes(item.bytes)}, {item.made}, {item.path}")


@recordings.command()
@verbose_option
def clear() -> None:
    """Remove the recordings that you made. Those of the package stay."""
    from profiler.files.cache import clear as remove

    removed = remove("traces")
    console().print(f"{removed} recording{'s' * (removed != 1)} removed")
