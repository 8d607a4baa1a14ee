"""Prints hot spots for a person: findings first, then when, where and what."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.table import Table

from profiler.hotspots.hotspots import Hotspots
from profiler.hotspots.lives import short
from profiler.hotspots.remedies import Remedy
from profiler.hotspots.tree import Node
from profiler.show import console
from profiler.units import format_bytes

BARS = " ▁▂▃▄▅▆▇█"
COLUMNS = 72
DEPTH = 4  # of rows in the tree
SMALL = 0.02  # of the peak: modules, and lines of the timeline, below it are left out
TENSORS = 10


def show_hotspots(found: Hotspots) -> None:
    """The whole answer."""
    out = console()
    out.print(found.workload.key)
    out.print(f"{found.source} for {found.stack.title}")
    reserved = f", {format_bytes(found.reserved)} reserved" if found.reserved is not None else ""
    out.print(
        f"peak {format_bytes(found.allocated)} allocated{reserved}; {format_bytes(found.baseline)} before the call"
    )
    out.print(f"at {found.peak_at.module or 'the stage itself'}: {found.peak_at.op}")
    out.print()
    for number, finding in enumerate(found.findings, 1):
        out.print(f"{number}. {format_bytes(finding.bytes)}  {finding.title}", style="bold")
        for line in finding.evidence:
            out.print(f"   {line}")
        for remedy in found.remedies_of(finding):
            out.print(f"   -> {describe_remedy(remedy)}")
    alone = " Each remedy was estimated by itself, on this workload." if found.remedies else ""
    out.print(f"Findings overlap.{alone}")
    for how, why in found.left_out.items():
        out.print(f"no remedy: {how}: {why}")
    out.print()
    _timeline(found)
    out.print()
    _by_module(found)
    _tensors(found)
    _modules(found)
    _workspace(found)
    for name, note in found.notes.items():
        out.print(f"note: {name}: {note}")


def describe_remedy(remedy: Remedy) -> str:
    """What to type and what it is worth."""
    now, before = remedy.peaks
    caution = f"; {remedy.caution}" if remedy.caution else ""
    peaks = f"{format_bytes(now)} {remedy.lowers} instead of {format_bytes(before)}"
    return f"{remedy.how}: {peaks} ({now / before - 1:+.0%}){caution}"


def sparkline(values: Sequence[int], top: int) -> str:
    """One character a value, from nothing to `top`."""
    return "".join(BARS[-(-value * (len(BARS) - 1) // top) if top else 0] for value in values)


def _timeline(found: Hotspots) -> None:
    """A line a group, to one scale; columns are equal stretches of points, each with its highest moment."""
    out, points, top = console(), found.timeline.points, found.allocated - found.baseline
    width = max(1, -(-len(points) // COLUMNS))
    moments = [max(points[n : n + width], key=lambda point: point.allocated) for n in range(0, len(points), width)]
    out.print(f"bytes alive above the {format_bytes(found.baseline)} before the call, highest moments in order")
    rows = [("all", [max(0, point.allocated - found.baseline) for point in moments])]
    for n, name in enumerate(found.timeline.groups):
        if name not in ("weights", "inputs"):
            rows.append((name, [point.by_group[n] for point in moments]))
    rows = [(name, values) for name, values in rows if max(values) > SMALL * top]
    wide = max((len(name) for name, _ in rows), default=0)
    for name, values in rows:
        out.print(f"{name:{wide}}  {sparkline(values, top)}  {format_bytes(max(values))}")


def _by_module(found: Hotspots) -> None:
    sizes = [(name, size) for name, size in found.by_module.items() if size > SMALL * found.allocated]
    rest = found.allocated - sum(size for _, size in sizes)
    text = ", ".join(f"{name} {format_bytes(size)}" for name, size in [*sizes, ("the rest", rest)] if size)
    console().print(f"at the peak: {text}")


def _tensors(found: Hotspots) -> None:
    rows = _table("alive at the peak", "shape", "dtype", "made in", "because")
    for item in [item for item in found.alive if item.why not in ("weights", "inputs")][:TENSORS]:
        shape = "x".join(map(str, item.shape))
        rows.add_row(
            format_bytes(item.bytes), shape, item.dtype, f"{item.module} {short(item.op)}".strip(), item.because
        )
    console().print(rows)


def _modules(found: Hotspots) -> None:
    rows = _table(
        "module", "class", "calls", "weights", "own peak", "with children", "made in all", "at the peak", "share"
    )
    for depth, names, node in visible(found):
        rows.add_row(
            "  " * depth + names, node.kind, str(node.calls or ""),
            *[format_bytes(size) for size in (node.weights, node.own_peak, node.peak, node.produced, node.at_peak)],
            f"{_share(found, node):.1%}",
        )  # fmt: skip
    console().print(rows)


def visible(found: Hotspots) -> Iterator[tuple[int, str, Node]]:
    """Modules worth a row: depth among those shown, path from the one above, node. Equal numbered neighbours share a row."""
    shown: list[str] = []
    nodes = [node for node in found.modules if not node.path or (node.calls and _share(found, node) > SMALL)]
    for _, group in groupby(nodes, key=lambda n: (_parent(n), n.kind, n.weights, n.own_peak, n.peak, n.at_peak)):
        alike = list(group)
        first = alike[0]
        while shown and shown[-1] and not first.path.startswith(shown[-1] + "."):
            shown.pop()
        if len(shown) <= DEPTH:
            name = first.path.removeprefix(shown[-1]).lstrip(".") if shown else "the stage"
            yield len(shown), name + (f" and {len(alike) - 1} alike" if len(alike) > 1 else ""), first
        shown.append(first.path)


def _workspace(found: Hotspots) -> None:
    if found.workspace:
        rows = _table("most borrowed by one op", "calls", "module", "op", "as")
        for item in found.workspace:
            rows.add_row(format_bytes(item.bytes), str(item.calls), item.module, short(item.op), item.kernel)
        console().print(rows)


def _share(found: Hotspots, node: Node) -> float:
    return (node.at_peak + node.weights) / found.allocated


def _parent(node: Node) -> str:
    return node.path.rpartition(".")[0]


def _table(*columns: str) -> Table:
    found = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for column in found.columns:
        column.overflow = "fold"
    return found
