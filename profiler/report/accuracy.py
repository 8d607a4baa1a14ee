"""The accuracy of the estimates as Markdown: what stands in the README, and the whole table."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from profiler.data.units import format_percent
from profiler.evidence.accuracy import GROUP, OURS, errors, side_by_side, summarize
from profiler.evidence.peers import SOURCES
from profiler.report.markdown import escape, table

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
MARK = "<!-- summary -->"  # around what the README repeats
PEER_COLUMNS = {
    "growth of reserved": (OURS, "reserved_growth"),
    "ComfyUI's growth": ("comfyui", "reserved_growth"),
    "InvokeAI's growth": ("invokeai", "reserved_growth"),
    "accelerate's weights": ("weights-only", "weights"),
}


def render(frame: "pd.DataFrame", about: Mapping[str, str]) -> str:
    """The whole document: conditions, summary, tables by stage and by case's kind, and what is not compared."""
    found = errors(frame)
    lines = ["# Accuracy of the estimates", "", *(f"- {name}: {text}" for name, text in about.items()), ""]
    lines += [
        "Errors are estimate against known figure, as a share of the known one: the median of their sizes, and the worst "
        "with its sign. `equal`: to the byte; of a published figure, to its last printed digit.",
        "", MARK, *summary(frame), MARK, "",
    ]  # fmt: skip
    for title, by in (("By stage", ["stage"]), ("By model, stage, dtype and options", GROUP[2:])):
        lines += [f"## {title}"]
        for (kind, gpu), part in found.groupby(["kind", "gpu"], sort=False):
            lines += ["", f"### {KINDS[str(kind)]}: {gpu}", "", *_table(part, by, peers=by != ["stage"])]
        lines += [""]
    return "\n".join([*lines, *_rest(frame), "", *_sources()]) + "\n"


def summary(frame: "pd.DataFrame") -> list[str]:
    """By kind and card, then each peer on its own quantity beside this project on the same rows."""
    found = errors(frame)
    lines = []
    for kind, part in found.groupby("kind", sort=False):
        lines += [f"{KINDS[str(kind)]}:", "", *_table(part, ["gpu"]), "", *_later(part), *_bound(frame, str(kind)), ""]
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
    return [
        f"The safe bound of reserved bytes held in {held} of {len(rows)}. {_room(frame[frame['kind'] == kind])}".strip()
    ]


def _room(frame: "pd.DataFrame") -> str:
    """What the estimates said of cases that fitted, and of those that ran out of memory."""
    ran, full = frame[frame["status"] == "ok"], frame[frame["status"] == "oom"]
    if full.empty:
        return ""
    said = f"{(ran['fits'] == True).sum()} of {len(ran)} that ran were said to fit"  # noqa: E712
    return f"{(full['fits'] == False).sum()} of {len(full)} that ran out of memory were said not to, {said}."  # noqa: E712


def _peers(found: "pd.DataFrame") -> list[str]:
    rows = []
    for line in side_by_side(found).reset_index().to_dict("records"):
        theirs = [format_percent(line[name]) for name in ("median", "worst")]
        ours = [format_percent(line[f"{name}_ours"]) for name in ("median", "worst")]
        rows.append([line["who"], NAMES.get(line["quantity"], line["quantity"]), str(line["rows"]), *theirs, *ours])
    heads = ["formula of", "for", "rows", "its median", "its worst", "ours, median", "ours, worst"]
    return table(heads, rows, range(2, 7))


def _table(found: "pd.DataFrame", by: list[str], *, peers: bool = False) -> list[str]:
    made = summarize(found, by)
    rows = []
    for key, _ in found.groupby(by, sort=False):
        names = key if isinstance(key, tuple) else (key,)
        cells = [cell for quantity in ALLOCATOR for cell in _figures(made, (*names, OURS, quantity))]
        cells += [_worst(made, (*names, *column)) for column in PEER_COLUMNS.values()] if peers else []
        rows.append([*(escape(str(name)) or "none" for name in names), *cells])
    heads = ["card" if name == "gpu" else name for name in by]
    heads += [f"{quantity}, {head}" for quantity in ALLOCATOR for head in HEADS]
    heads += [f"{name}, worst" for name in PEER_COLUMNS] if peers else []
    return table(heads, rows, range(len(by), len(heads)))


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
        [escape(str(row[name])) for name in ("gpu", "key", "status")]
        + [said[row["fits"]], escape(row["reason"].split(". ")[0])]
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
