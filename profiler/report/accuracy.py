"""The accuracy of the estimates as Markdown: what stands in the README, and the whole table."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from profiler.accuracy import GROUP, OURS, errors, side_by_side, summarize
from profiler.baselines import SOURCES
from profiler.report.markdown import escape, table
from profiler.units import format_percent

if TYPE_CHECKING:
    import pandas as pd

KINDS = {
    "measured": "Measured on a GPU",
    "dry": "Dry runs: torch's CUDA build, its allocator and cuDNN's plans are real, no kernel ran, no GPU was there",
    "published": "Published by others",
    "cpu": "CPU: tensors are estimated, what kernels borrow is measured and added to both sides",
}
HEADS = ["rows", "equal", "median", "worst"]
NAMES = {"reserved_growth": "growth of reserved"}
ALLOCATOR = ("allocated", "reserved")


def render(frame: "pd.DataFrame", about: Mapping[str, str]) -> str:
    """The whole document: conditions, summary, peers, a table a kind and card, and what is not compared."""
    found = errors(frame)
    lines = ["# Accuracy of the estimates", "", *(f"- {name}: {text}" for name, text in about.items()), ""]
    lines += [
        "Errors are estimate against known figure, as a share of the known one: the median of their sizes, and the worst "
        "with its sign. `equal`: to the byte; of a published figure, to its last printed digit.",
        "", *summary(frame), "", "## By model, stage, dtype and options",
    ]  # fmt: skip
    for (kind, gpu), part in found.groupby(["kind", "gpu"], sort=False):
        lines += ["", f"### {KINDS[str(kind)]}: {gpu}", "", *_groups(part)]
    return "\n".join([*lines, "", *_rest(frame), "", *_sources()]) + "\n"


def summary(frame: "pd.DataFrame") -> list[str]:
    """By kind, card and stage, then each peer on its own quantity beside this project on the same rows."""
    found = errors(frame)
    lines = []
    for kind, part in found.groupby("kind", sort=False):
        lines += [f"{KINDS[str(kind)]}:", "", *_stages(part), "", *_later(part), *_bound(frame, str(kind)), ""]
        lines += [*_peers(part), ""]
    return lines[:-1]


def _later(found: "pd.DataFrame") -> list[str]:
    """Later calls of the same process, where they are known."""
    later = found[found["quantity"].isin([f"warm_{name}" for name in ALLOCATOR])]
    if later.empty:
        return []
    equal, worst = later["equal"].sum(), max(later["error"], key=abs)
    return [f"Peaks of a later call: {equal} of {len(later)} equal, worst {format_percent(worst)}.", ""]


def _bound(frame: "pd.DataFrame", kind: str) -> list[str]:
    """How often the bound over other histories of the process held."""
    rows = frame[(frame["kind"] == kind) & (frame["reason"] == "")].dropna(subset=["known reserved", "safe_reserved"])
    if rows.empty:
        return []
    held = (rows["safe_reserved"] + rows["half_digit"] >= rows["known reserved"]).sum()
    return [f"The estimate's safe bound of reserved bytes held in {held} of {len(rows)}."]


def _stages(found: "pd.DataFrame") -> list[str]:
    ours = summarize(found[found["who"] == OURS], ["gpu", "stage"])
    rows = []
    for (gpu, stage), _ in found.groupby(["gpu", "stage"], sort=False):
        figures = [_figures(ours, (gpu, stage, OURS, quantity)) for quantity in ALLOCATOR]
        rows.append([escape(str(gpu)), str(stage), *figures[0], *figures[1]])
    heads = [f"{quantity}, {head}" for quantity in ALLOCATOR for head in HEADS]
    return table(["card", "stage", *heads], rows, range(2, 10))


def _peers(found: "pd.DataFrame") -> list[str]:
    both = side_by_side(found)
    rows = []
    for line in both.reset_index().to_dict("records"):
        theirs = [format_percent(line[name]) for name in ("median", "worst")]
        ours = [format_percent(line[f"{name}_ours"]) for name in ("median", "worst")]
        names = [escape(line["gpu"]), line["who"], NAMES.get(line["quantity"], line["quantity"])]
        rows.append([*names, str(line["rows"]), *theirs, *ours])
    heads = ["card", "formula of", "for", "rows", "its median", "its worst", "ours, median", "ours, worst"]
    return table(heads, rows, range(3, 8))


def _groups(found: "pd.DataFrame") -> list[str]:
    by = GROUP[2:]
    made = summarize(found, by)
    rows = []
    for key, _ in found.groupby(by, sort=False):
        assert isinstance(key, tuple)
        cells = [_figures(made, (*key, OURS, quantity)) for quantity in ALLOCATOR]
        peers = [
            _worst(made, (*key, who, quantity))
            for who, quantity in ((OURS, "reserved_growth"), ("comfyui", "reserved_growth"),
                                  ("invokeai", "reserved_growth"), ("weights-only", "weights"))
        ]  # fmt: skip
        rows.append([*(escape(str(part)) or "none" for part in key), *cells[0], *cells[1], *peers])
    heads = [f"{quantity}, {head}" for quantity in ALLOCATOR for head in HEADS]
    growth = [f"growth of reserved, worst: {who}" for who in (OURS, "ComfyUI", "InvokeAI")]
    return table([*by, *heads, *growth, "weights, worst: accelerate"], rows, range(4, 16))


def _figures(made: "pd.DataFrame", key: Sequence[Any]) -> list[str]:
    if tuple(key) not in made.index:
        return ["0", "", "", ""]
    line = made.loc[tuple(key)]
    return [
        f"{line['rows']:.0f}",
        f"{line['equal']:.0f}",
        format_percent(line["median"]),
        format_percent(line["worst"]),
    ]


def _worst(made: "pd.DataFrame", key: Sequence[Any]) -> str:
    return format_percent(made.loc[tuple(key)]["worst"]) if tuple(key) in made.index else "no formula"


def _rest(frame: "pd.DataFrame") -> list[str]:
    """The cases without an error, and what `fits` said of those that ran out of memory."""
    left = frame[frame["reason"] != ""]
    if left.empty:
        return ["Every case is compared."]
    said = {True: "fits", False: "does not fit", None: "unknown"}
    rows = [
        [escape(str(row[name])) for name in ("gpu", "key", "status")] + [said[row["fits"]], escape(row["reason"])]
        for row in left.to_dict("records")
    ]
    return ["## Not compared", "", *table(["card", "case", "status", "estimate says", "why"], rows)]


def _sources() -> list[str]:
    return [
        "## The peers' formulas",
        "",
        "Each is judged on the quantity that it is for. ComfyUI runs its own implementations of these networks; the rows "
        "are diffusers'. Weights as the allocator holds them include the ends of blocks; a count of parameters does not.",
        "",
        *table(["formula", "source"], [[name, escape(source)] for name, source in SOURCES.items()]),
    ]
