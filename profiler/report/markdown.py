"""The report as Markdown for a pull request: the same facts as the page, without charts.

Names and messages are hostile text here too: what Markdown, HTML or GitHub (mentions, mathematics) would act on is
escaped, and a value never ends its table cell.
"""

import re
from collections.abc import Iterable, Sequence

from profiler.comparison.case import Comparison
from profiler.data.records import Record
from profiler.data.units import format_bytes
from profiler.report import cells, conditions, growth, peers, words
from profiler.report.cells import COLUMNS, Cell, Footnotes
from profiler.report.engine import format_exact
from profiler.report.peers import Peers
from profiler.report.run_info import RunInfo

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ./:=+,_-]*")


def render_markdown(comparisons: Sequence[Comparison], about: RunInfo, others: Peers | None = None) -> str:
    """The whole report over `comparisons`, in their order, as Markdown that GitHub renders."""
    notes = Footnotes()
    parts = [
        [f"# {escape(about.title)}", ""],
        _head(comparisons, about),
        ["", "## Conditions", "", *_conditions(comparisons, about)],
        ["", "## All cases", "", escape(cells.UNITS), "", *_cases(comparisons, notes)],
        ["", "## From latent to device", "", *_waterfalls(comparisons, notes)],
        _reasons(notes),
        ["", "## Beside others' formulas", "", *_peers(comparisons, others or {})],
        ["", "## Growth", "", *_growth(comparisons)],
        ["", "## Why peaks differ", "", *_differences(comparisons)],
        ["", "## What failed or was skipped", "", *_failures(comparisons)],
    ]
    return "\n".join(line for part in parts for line in part) + "\n"


def escape(text: str) -> str:
    """`text` as one line of Markdown that means itself, in a paragraph and in a table cell."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line).replace("@", "@<!-- -->").replace("#", "&#35;")


def code(text: str) -> str:
    """`text` in code type where nothing in it could end that; escaped prose otherwise."""
    return f"`{text}`" if PLAIN.fullmatch(text) else escape(text)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lines of a table whose cells are Markdown already; columns named in `right` are aligned right."""
    rule = ["--:" if column in right else "---" for column in range(len(heads))]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]


def _head(comparisons: Sequence[Comparison], about: RunInfo) -> list[str]:
    warnings = [*words.cautions(comparisons), *([about.kind_note] if about.kind_note else [])]
    lines = [words.QUESTION, "", f"**{escape(words.answer(comparisons))}**", ""]
    facts = [*words.largest_peaks(comparisons), words.explained(comparisons)]
    lines += [f"- {escape(line)}." for line in facts if line]
    return lines + [line for warning in warnings for line in ("", f"> **{escape(warning)}**")]


def _conditions(comparisons: Sequence[Comparison], about: RunInfo) -> list[str]:
    lines = [f"- Kind of numbers: {'; '.join(conditions.kinds(comparisons)) or 'none'}"]
    lines += [f"- {label}: {code(text)}" for label, text in about.facts]
    lines.append(f"- Cases ran: {escape(conditions.period(comparisons))}")
    uses = conditions.stack_uses(comparisons)
    if len(uses) > 1:
        lines.append(
            f"- {len(uses)} stacks are present; numbers of two fingerprints are not compared with each other. "
            "Fields in which they differ are bold."
        )
    if not uses:
        return [*lines, "- No stack was recorded."]
    rows = [
        ["used", *(escape(use.roles) for use in uses)],
        ["fingerprint", *(code(use.stack.fingerprint) for use in uses)],
    ]
    for row in conditions.stack_rows(uses):
        label = escape(row.label)
        rows.append([f"**{label}**" if row.differs else label, *(escape(text) for text in row.texts)])
    return [*lines, "", *table(["stack", *(escape(use.stack.title) for use in uses)], rows)]


def _cases(comparisons: Sequence[Comparison], notes: Footnotes) -> list[str]:
    if not comparisons:
        return ["No case was run."]
    columns = [(group, column) for group, names in COLUMNS for column in names]
    figures = ("estimated", "measured")
    heads = [f"{group.lower()}, {column}" if column in figures else column for group, column in columns]
    right = [at for at, (_, column) in enumerate(columns) if column in (*figures, "error", "batch")]
    rows = [[_cell(cell) for cell in cells.table_row(comparison, notes)] for comparison in comparisons]
    return table(heads, rows, right)


def _waterfalls(comparisons: Sequence[Comparison], notes: Footnotes) -> list[str]:
    rows = []
    for comparison in comparisons:
        record = comparison.record
        label = f"{code(words.name(comparison))} {words.clip_size(record.workload)}"
        sides: list[cells.Side] = ["estimated"] if record.estimate else []
        sides += ["measured"] if record.measurement else []
        rows += [[label, escape(f"{side}, {words.card(record)}"), *_steps(comparison, side, notes)] for side in sides]
    if not rows:
        return ["No case has numbers."]
    text = (
        "The latent is a closed form and a part of inputs or outputs. Weights to workspace add up to allocated, with "
        "cached to reserved, with context to device."
    )
    return [text, "", *table(["case", "side", *(name for name, _ in cells.STEPS)], rows, right=range(2, 13))]


def _steps(comparison: Comparison, side: cells.Side, notes: Footnotes) -> list[str]:
    texts = []
    for step in cells.waterfall_steps(comparison):
        source: cells.Side = "estimated" if step.role == "latent" else side
        reason = cells.why_unknown(comparison.record, source, step.field)
        cell = notes.size(getattr(step.pair, source), reason)
        texts.append(f"{_cell(cell)} as measured" if step.borrowed and side == "estimated" else _cell(cell))
    return texts


def _reasons(notes: Footnotes) -> list[str]:
    lines = [f"{number}. {escape(reason)}" for number, reason in enumerate(notes.reasons, 1)]
    return ["", "Why a figure is unknown:", "", *lines] if lines else []


def _peers(comparisons: Sequence[Comparison], others: Peers) -> list[str]:
    rows = peers.peer_rows(comparisons, others)
    lines = [f"- {escape(line)}." for line in peers.summary(rows)]
    return ["Median distance from the measured figure, and over how many cases:", "", *lines] if lines else ["None."]


def _growth(comparisons: Sequence[Comparison]) -> list[str]:
    rows = [
        [chart.over, escape(series.name), f"{point.x:,}", format_exact(point.estimated), format_exact(point.measured)]
        for chart in growth.charts(comparisons)
        for series in chart.series
        for point in series.points
    ]
    heads = ["over", "series", "at", "estimated", "measured"]
    return table(heads, rows, right=(2, 3, 4)) if rows else ["No workload was run at two lengths or two areas."]


def _differences(comparisons: Sequence[Comparison]) -> list[str]:
    found = [(c.record.key, c.record.explanation) for c in comparisons if c.record.explanation]
    rows = [
        [code(key), f"{item.difference:+,} B", f"{item.unexplained:+,} B", escape(item.text)]
        for key, item in found
        if item.difference or item.unexplained
    ]
    if not found:
        return ["No events were kept."]
    heads = ["case", "measured minus estimated", "unexplained", "causes"]
    return table(heads, rows, right=(1, 2)) if rows else ["Every peak is equal to the byte."]


def _failures(comparisons: Sequence[Comparison]) -> list[str]:
    failed = [comparison for comparison in comparisons if comparison.record.status != "ok"]
    rows = [[code(c.record.key), *(escape(text) for text in _failure(c.record))] for c in failed]
    heads = ["case", "status", "phase", "message", "signal", "asked for", "log"]
    return table(heads, rows) if rows else ["No case failed, and none was skipped."]


def _failure(record: Record) -> list[str]:
    failure = record.failure
    if failure is None:
        reasons = "; ".join(f"{field}: {text}" for field, text in record.notes.items())
        return [record.status, "none", reasons or "no detail was recorded", "none", "none", "none"]
    asked = "none" if failure.requested_bytes is None else format_bytes(failure.requested_bytes)
    return [record.status, failure.phase, failure.message, failure.signal or "none", asked, failure.log or "none"]


def _cell(cell: Cell) -> str:
    text = escape(cell.text) + (f" ({cell.note})" if cell.note else "")
    return f"{text}<br>{escape(cell.detail)}" if cell.detail else text
