"""The report as one HTML file: styles, script and charts inlined, no request to any network, values escaped.

The page forbids itself everything else: its content security policy names the hashes of the one style sheet and the one
script, so that markup in a model's name or in an error message could not run even if it were not escaped.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from markupsafe import Markup

from profiler.comparison.case import Comparison
from profiler.report import case, cells, charts, peers, words
from profiler.report.cells import Footnotes
from profiler.report.contents import RunInfo, collect_contents
from profiler.report.engine import asset, render
from profiler.report.peers import Peers

# HTML ends cells, rows and list items by itself: without these tags a large report is a tenth smaller. No value can
# hold one, since values are escaped.
OPTIONAL_TAGS = re.compile("</(t[dhr]|d[dt]|li)>")
OPEN_CASES = 3  # sections that stand open when the page is opened


def render_html(comparisons: Sequence[Comparison], about: RunInfo, others: Peers | None = None) -> str:
    """The whole report over `comparisons`, in their order, as the text of one self-contained HTML file.

    `others` are the figures of others' formulas.
    """
    notes = Footnotes()
    common = case.common_notes(comparison.record for comparison in comparisons)
    style, script = asset("style.css"), asset("page.js")
    text = render(
        "report.html",
        **collect_contents(comparisons, about, others),
        words=words,
        case=case,
        cells=cells,
        peers=peers,
        sections=[_section(number, row, common, notes) for number, row in enumerate(comparisons, 1)],
        notes=notes,
        open_cases=OPEN_CASES,
        agreement=charts.draw_agreement(comparisons),
        style=Markup(style),
        script=Markup(script),
        policy=policy(style, script),
    )
    return OPTIONAL_TAGS.sub("", text)


def _section(number: int, comparison: Comparison, common: frozenset[str], notes: Footnotes) -> dict[str, Any]:
    """One case as the template prints it. `row` follows `cells.COLUMNS`; `steps` are the waterfall to the byte."""
    steps = cells.waterfall_steps(comparison)
    measured = comparison.record.measurement or comparison.record.failure
    return {
        "number": number,
        "comparison": comparison,
        "row": cells.table_row(comparison, notes),
        "chart": charts.waterfall(comparison, number),
        "steps": [(step, cells.step_cells(comparison, step, notes)) for step in steps],
        "unexplained": cells.unexplained(steps),
        "readings": case.reading_table(measured, notes) if measured else None,
        "notes": case.all_notes(comparison.record, common, notes),
    }


def policy(style: str, script: str) -> str:
    """A content security policy that allows this style sheet, this script and nothing from anywhere."""
    hashes = [b64encode(sha256(text.encode()).digest()).decode() for text in (style, script)]
    return f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:"
