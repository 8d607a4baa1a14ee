"""The accuracy of the estimates as Markdown: the summary, which docs/accuracy.md repeats, and the whole table."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from profiler.data.units import format_percent
from profiler.evidence.accuracy import GROUP, OURS, errors, side_by_side, summarize
from profiler.evidence.peers import SOURCES
from profiler.report.markdown import markdown_environment

if TYPE_CHECKING:
    import pandas as pd

KIND_TITLES = {
    "measured": "Measured on a GPU",
    "dry": "Dry runs: torch's CUDA build, its allocator and cuDNN's plans are real, no kernel ran, no GPU was there",
    "published": "Published by others",
    "cpu": "CPU: tensors are estimated, what kernels borrow is measured and added to both sides",
}
HEADS = ["rows", "equal", "median", "worst"]
QUANTITY_NAMES = {"reserved_growth": "growth of reserved"}
ALLOCATOR = ("allocated", "reserved")
PEER_COLUMNS = {
    "growth of reserved": (OURS, "reserved_growth"),
    "ComfyUI's growth": ("comfyui", "reserved_growth"),
    "InvokeAI's growth": ("invokeai", "reserved_growth"),
    "accelerate's weights": ("weights-only", "weights"),
}
Table = tuple[list[str], list[list[str]], range]  # heads, rows, and the columns that are aligned right


def render_accuracy(frame: "pd.DataFrame", about: Mapping[str, str]) -> str:
    """The whole document: conditions, summary, tables by stage and by case's kind, and what is not compared.

    docs/accuracy.md repeats what stands between its two marks `<!-- summary -->`.
    """
    found = errors(frame)
    groupings = {"By stage": ["stage"], "By model, stage, dtype and options": GROUP[2:]}
    by_card = list(found.groupby(["kind", "gpu"], sort=False))
    tables = {
        title: [(key, _table(part, by, peers=by != ["stage"])) for key, part in by_card]
        for title, by in groupings.items()
    }
    left_out = frame[frame["reason"] != ""].to_dict("records")
    text = _render("accuracy.md", frame, about=about, tables=tables, left_out=left_out, sources=SOURCES)
    return text + "\n"


def render_summary(frame: "pd.DataFrame") -> str:
    """By kind and card, then each peer on its own quantity beside this project on the same rows."""
    return _render("accuracy_summary.md", frame)


def _render(template: str, frame: "pd.DataFrame", **context: Any) -> str:
    parts = [
        {
            "kind": kind,
            "by_card": _table(found, ["gpu"]),
            "later": _say_later_calls(found),
            "bound": _say_bound(frame[frame["kind"] == kind]),
            "peers": _peer_table(found),
        }
        for kind, found in errors(frame).groupby("kind", sort=False)
    ]
    return markdown_environment().get_template(template).render(parts=parts, kinds=KIND_TITLES, **context)


def _say_later_calls(found: "pd.DataFrame") -> str:
    """Later calls of the same process, where they are known."""
    later = found[found["quantity"].isin([f"warm_{name}" for name in ALLOCATOR])]
    if later.empty:
        return ""
    equal, worst = later["equal"].sum(), max(later["error"], key=abs)
    return f"Peaks of a later call: {equal} of {len(later)} equal, worst {format_percent(worst)}."


def _say_bound(frame: "pd.DataFrame") -> str:
    """How often the bound over other pasts of the process held, how far above it lies, and what was said of full cards."""
    rows = frame[frame["reason"] == ""].dropna(subset=["known reserved", "safe_reserved"])
    if rows.empty:
        return ""
    known = rows[["known reserved", "known warm_reserved"]].max(axis=1)  # of the first call and of later ones
    held, above = (rows["safe_reserved"] + rows["half_digit"] >= known).sum(), rows["safe_reserved"] / known - 1
    median, worst = (format_percent(share) for share in (above.median(), above.max()))
    lies = f"it lies above by {median} (median), {worst} at most"
    text = f"The safe bound of reserved bytes held in {held} of {len(rows)}; {lies}."
    ran, full = frame[frame["status"] == "ok"], frame[frame["status"] == "oom"]
    if full.empty:
        return text
    said = f"{(ran['fits'] == True).sum()} of {len(ran)} that ran were said to fit"  # noqa: E712
    refused = (full["fits"] == False).sum()  # noqa: E712
    return f"{text} {refused} of {len(full)} that ran out of memory were said not to, {said}."


def _peer_table(found: "pd.DataFrame") -> Table:
    heads = ["formula of", "for", "rows", "its median", "its worst", "ours, median", "ours, worst"]
    figures = ("median", "worst", "median_ours", "worst_ours")
    rows = [
        [
            *(line["who"], QUANTITY_NAMES.get(line["quantity"], line["quantity"]), str(line["rows"])),
            *(format_percent(line[name]) for name in figures),
        ]
        for line in side_by_side(found).reset_index().to_dict("records")
    ]
    return heads, rows, range(2, 7)


def _table(found: "pd.DataFrame", by: list[str], *, peers: bool = False) -> Table:
    columns = PEER_COLUMNS if peers else {}
    made = summarize(found, by).to_dict("index")
    rows = []
    for key, _ in found.groupby(by, sort=False):
        names = key if isinstance(key, tuple) else (key,)
        cells = [cell for quantity in ALLOCATOR for cell in _figures(made.get((*names, OURS, quantity)))]
        worst = [made.get((*names, *column)) for column in columns.values()]
        cells += ["no formula" if line is None else format_percent(line["worst"]) for line in worst]
        rows.append([*(str(name) or "none" for name in names), *cells])
    heads = ["card" if name == "gpu" else name for name in by]
    heads += [f"{quantity}, {head}" for quantity in ALLOCATOR for head in HEADS]
    heads += [f"{name}, worst" for name in columns]
    return heads, rows, range(len(by), len(heads))


def _figures(line: Mapping[Hashable, Any] | None) -> Sequence[str]:
    if line is None:
        return ["0", "", "", ""]
    return [str(line["rows"]), str(line["equal"]), format_percent(line["median"]), format_percent(line["worst"])]
