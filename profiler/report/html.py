"""The report as one HTML file: styles, script, charts and data inlined, no request to any network, values escaped.

The cases are data, packed: the script draws their table, and a case's section when it is opened. So a page of thousands of
cases is small, and opens at once. The page forbids itself everything else: its content security policy names the hashes
of the one style sheet and the one script, so that markup in a model's name or in an error message could not run even if
it were not escaped.
"""

import gzip
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from markupsafe import Markup

from profiler.comparison.case import Comparison
from profiler.data.text import visible
from profiler.report import case, cells, charts, words
from profiler.report.cells import Footnotes
from profiler.report.engine import asset, render
from profiler.report.section import make_section, summary_line

LONGEST = 180  # of a second line in the table of cases: the section has the whole


def render_html(contents: Mapping[str, Any]) -> str:
    """The whole report, as `collect_contents` gives it, as the text of one self-contained HTML file."""
    comparisons = contents["comparisons"]
    style, script = asset("style.css"), asset("page.js")
    return render(
        "report.html",
        **contents,
        words=words,
        cells=cells,
        agreement=charts.draw_agreement(comparisons),
        data=pack(page_data(comparisons, contents["peer_rows"])),
        style=Markup(style),
        script=Markup(script),
        policy=policy(style, script),
    )


def page_data(comparisons: Sequence[Comparison], peer_rows: Mapping[str, Any]) -> list[Any]:
    """What the script draws, a document a line of JSON: the table of all cases first, then a section a case."""
    notes = Footnotes()
    common = case.common_notes(comparison.record for comparison in comparisons)
    table = cells.case_table(comparisons, notes)
    sections = [make_section(row, common, notes, peer_rows.get(row.record.key)) for row in comparisons]
    head = {
        "heads": table.heads,
        "rows": [[_short(cell.data) for cell in row] for row in table.rows],
        "alike": table.alike,
        "notes": notes.reasons,
        "cases": [summary_line(row) for row in comparisons],
    }
    return [head, *sections]


def pack(documents: Sequence[Any]) -> str:
    """Lines of JSON, compressed, in letters that HTML does not act on."""
    lines = "\n".join(json.dumps(_visible(document), separators=(",", ":")) for document in documents)
    return b64encode(gzip.compress(lines.encode(), mtime=0)).decode()


def _visible(data: Any) -> Any:
    if isinstance(data, str):
        return visible(data)
    if isinstance(data, dict):
        return {key: _visible(value) for key, value in data.items()}
    return [_visible(item) for item in data] if isinstance(data, (list, tuple)) else data


def _short(data: Any) -> Any:
    if not isinstance(data, list) or len(data[1]) <= LONGEST:
        return data
    return [data[0], f"{data[1][: LONGEST - 1]}\u2026", data[2]]


def policy(style: str, script: str) -> str:
    """A content security policy that allows this style sheet, this script and nothing from anywhere."""
    hashes = [b64encode(sha256(text.encode()).digest()).decode() for text in (style, script)]
    return f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:"
