"""`latentmeter hotspots`: where the peak is, why, and what would lower it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import profiler
from profiler.commands.estimate import generation_asked
from profiler.commands.options import card_options, emit, force_option, generation_options, json_option
from profiler.commands.tables import console, print_table, show_first_notes, show_notes
from profiler.data.text import fit_command
from profiler.data.units import ceil_div, format_bytes
from profiler.diagnosis.export import parse_exports, write_exports
from profiler.diagnosis.lives import SMALL, count_and_size, group_alike, made_in, short_name
from profiler.diagnosis.profile import ROLES, STANDING
from profiler.diagnosis.remedies import describe_remedy
from profiler.errors import UserError
from profiler.files.write import check_output, write_atomically

if TYPE_CHECKING:
    from profiler.diagnosis.hotspots import Hotspots

BARS = " ▁▂▃▄▅▆▇█"
COLUMNS = 72  # of the timeline
TENSORS = 10


@click.command()
@click.argument("model")
@generation_options
@card_options
@click.option("--device", type=click.Choice(["cuda", "cpu"]), help="Measure here instead of estimating.")
@click.option("--measured", type=click.Path(path_type=Path), help="Folder of a run that kept this case's events.")
@click.option("--no-remedies", is_flag=True, help="Leave out the estimates with options on.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write a page: FILE.html.")
@click.option("--export", "exports", multiple=True, help="KIND=FILE: snapshot, chrome, csv or stacks. Repeatable.")
@click.option("--export-dir", type=click.Path(path_type=Path), help="Folder for all four exports.")
@force_option
@json_option
def hotspots(
    model: str, measured: Path | None, no_remedies: bool, out: Path | None, exports: tuple[str, ...],
    export_dir: Path | None, force: bool, as_json: bool, **values: Any,
) -> None:  # fmt: skip
    """Where the peak of one stage of MODEL is, why its bytes are alive, and what would take them away.

    With --stage generate it is that of a whole generation, phase by phase, with the lines of Python that hold what nothing
    reads again.
    """
    paths = parse_exports(exports, export_dir)
    for path in [*paths.values(), *filter(None, [out])]:
        check_output(path, "file", force=force)
    asked = generation_asked(values)
    if "placement" in asked and asked["stage"] != "generate":
        stage = asked["stage"]
        raise UserError(f"stage: no hot spots of {stage} within a generation alone; --stage generate has them by phase")
    found, profile = profiler.hotspots(model, run=measured, remedies=not no_remedies, **asked)
    write_exports(profile, paths)
    if out is not None:
        from profiler.report.hotspots import render_page

        write_atomically(out, render_page(found))
    emit(found.to_dict(), as_json, lambda _: show_hotspots(found))
    if found.verdict == "does not fit" and not as_json:
        console().print(f"what would fit: {fit_command(model, asked)}")


def show_hotspots(found: "Hotspots") -> None:
    """The whole answer: peak, findings with their remedies, timeline, tensors, modules, borrowers, notes."""
    out = console()
    out.print(found.workload.key)
    show_first_notes(found.notes)
    for line in filter(None, found.answer):
        out.print(line, style="bold")
    reserved = f"; {format_bytes(found.reserved)} reserved at most" if found.reserved is not None else ""
    out.print(f"{ROLES[found.source]} {found.stack.title}; {format_bytes(found.baseline)} before the call{reserved}")
    if found.second:
        out.print(f"next highest: {found.second}")
    out.print()
    _show_findings(found)
    _show_timeline(found)
    _show_tensors(found)
    _show_modules(found)
    _show_borrowers(found)
    show_notes(found.notes)


def _show_findings(found: "Hotspots") -> None:
    out = console()
    for number, finding in enumerate(found.findings, 1):
        out.print(f"{number}. {format_bytes(finding.bytes)}  {finding.title}", style="bold")
        for line in finding.evidence:
            out.print(f"   {line}")
        for remedy in found.remedies_of(finding):
            out.print(f"   -> {describe_remedy(remedy)}")
    named = {name for finding in found.findings for name in finding.options}
    for remedy in found.remedies:
        if remedy.name not in named:
            out.print(f"-> {describe_remedy(remedy)}")
    alone = " Each remedy was estimated by itself, on this workload." if found.remedies else ""
    out.print(f"Findings overlap.{alone}")
    for how, why in found.left_out.items():
        out.print(f"no remedy: {how}: {why}")
    out.print()


def _show_timeline(found: "Hotspots") -> None:
    """A line a group, to one scale; columns are equal stretches of points, each with its highest moment."""
    out, points, base = console(), found.timeline.points, 0 if found.phases else found.baseline
    top = found.allocated - base
    width = max(1, ceil_div(len(points), COLUMNS))
    moments = [max(points[n : n + width], key=lambda point: point.allocated) for n in range(0, len(points), width)]
    above = f" above the {format_bytes(base)} before the call" if base or not found.phases else ""
    out.print(f"bytes alive{above}, highest moments in order")
    rows = {"all": [max(0, point.allocated - base) for point in moments]}
    for n, name in enumerate(found.timeline.groups):
        if name not in STANDING:
            rows[name] = [point.by_group[n] for point in moments]
    rows = {name: values for name, values in rows.items() if max(values) > SMALL * top}
    wide = max(map(len, rows), default=0)
    for name, values in rows.items():
        out.print(f"{name:{wide}}  {sparkline(values, top)}  {format_bytes(max(values))}")
    if found.phases:
        out.print(f"{'':{wide}}  {_phases_below(found, [point.event for point in moments])}")
    out.print()


def _phases_below(found: "Hotspots", events: list[int]) -> str:
    """The name of each phase below its columns, as far as there is room."""
    widths = [(phase.name, sum(phase.start <= event < phase.stop for event in events)) for phase in found.phases]
    return "".join(f"|{name}"[:width].ljust(width) for name, width in widths)


def sparkline(values: Sequence[int], top: int) -> str:
    """One character a value, from nothing to `top`."""
    return "".join(BARS[ceil_div(value * (len(BARS) - 1), top) if top else 0] for value in values)


def _show_tensors(found: "Hotspots") -> None:
    sizes = {name: size for name, size in found.by_module.items() if size > SMALL * found.allocated}
    sizes["the rest"] = found.allocated - sum(sizes.values())
    console().print("at the peak: " + ", ".join(f"{name} {format_bytes(size)}" for name, size in sizes.items() if size))
    rows = [
        [count_and_size(group), *group[0].form, made_in(group), group[0].because]
        for group in group_alike(found.made)[:TENSORS]
    ]
    print_table(["alive at the peak", "shape", "dtype", "made in", "because"], rows)


def _show_modules(found: "Hotspots") -> None:
    rows = [
        [
            *("  " * depth + names, node.kind, str(node.calls or "")),
            *map(format_bytes, (node.weights, node.own_peak, node.peak, node.produced, node.at_peak)),
            f"{found.share_of(node):.1%}",
        ]
        for depth, names, node in found.visible_modules()
    ]
    sizes = ["weights", "own peak", "with children", "made in all", "at the peak"]
    print_table(["module", "class", "calls", *sizes, "share"], rows)


def _show_borrowers(found: "Hotspots") -> None:
    rows = [
        [format_bytes(item.bytes), str(item.calls), item.where, short_name(item.op), item.kernel]
        for item in found.workspace
    ]
    if rows:
        print_table(["most borrowed by one op", "calls", "module", "op", "as"], rows)
