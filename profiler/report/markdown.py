"""The report as Markdown for a pull request: the same facts as the page, without charts.

Names and messages are hostile text here too: what Markdown, HTML or GitHub (mentions, mathematics) would act on is
escaped, and a value never ends its table cell.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from profiler.comparison.case import Comparison
from profiler.data.text import for_markdown
from profiler.evidence.coverage import Trial
from profiler.files.paths import installed
from profiler.report import cells, words
from profiler.report.cells import SIDES, STEPS, Cell, Footnotes, Table
from profiler.report.engine import environment
from profiler.report.generation import phase_table

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ./:=+,_-]*")


def render_markdown(contents: Mapping[str, Any]) -> str:
    """The whole report, as `collect_contents` gives it, as Markdown that GitHub renders."""
    comparisons, notes = contents["comparisons"], Footnotes()
    table = cells.case_table(comparisons, notes)
    return (
        markdown_environment()
        .get_template("report.md")
        .render(
            **contents,
            words=words,
            cells=cells,
            notes=notes,
            table=table,
            right=[at for at, name in enumerate(table.heads) if "," in name or name in ("error", "batch")],
            waterfalls=_waterfalls(comparisons, notes),
            phases=[(one.record, phase_table(one, contents["measured"])) for one in comparisons],
        )
    )


def render_coverage(trials: Sequence[Trial], summary: str, gpu: str) -> str:
    """What `evidence/coverage.py` tried of diffusers' classes, as the text of a file: versions, date, a row a stage."""
    about = {"diffusers": installed("diffusers"), "torch": installed("torch"), "date": date.today().isoformat()}
    template = markdown_environment().get_template("coverage.md")
    return template.render(trials=trials, summary=summary, gpu=gpu, **about)


def _waterfalls(comparisons: Sequence[Comparison], notes: Footnotes) -> Table:
    """A row for each side that has figures: the steps from latent to device."""
    rows = []
    for comparison in comparisons:
        record, steps = comparison.record, cells.waterfall_steps(comparison)
        name = Cell(f"{words.name_of(comparison)} {words.format_clip(record.workload)}")
        for side, source in zip(SIDES, (record.estimate, record.measurement), strict=True):
            if source:
                who = Cell(f"{source.kind}, {words.card_of(record)}")
                rows.append([name, who, *(cells.step_cell(comparison, step, side, notes) for step in steps)])
    heads = ["case", "side", *(step for step, _ in STEPS)]
    return Table(heads, rows).without_repeats(["case", "side", "allocated"], notes)


@cache
def markdown_environment() -> Environment:
    """The engine of the `.md` templates: every value that is not `Markup` is escaped for Markdown instead of HTML."""
    engine = environment().overlay(finalize=lambda value: value if isinstance(value, Markup) else escape(str(value)))
    engine.filters = engine.filters | {"code": code, "line": line}
    return engine


def escape(text: str) -> Markup:
    """`text` as Markdown that means itself: markup that the templates take as it is."""
    return Markup(for_markdown(text))


def line(row: Sequence[Cell]) -> Markup:
    """A row of a table; the number of a footnote stands behind an unknown."""
    texts = []
    for cell in row:
        note = f" ({cell.note})" if cell.note else ""
        detail = f"<br>{for_markdown(cell.detail)}" if cell.detail else ""
        texts.append(f"{for_markdown(cell.text)}{note}{detail}")
    return Markup(f"| {' | '.join(texts)} |")


def code(text: str) -> Markup:
    """`text` in code type where nothing in it could end that; escaped prose otherwise."""
    return Markup(f"`{text}`") if PLAIN.fullmatch(text) else escape(text)
