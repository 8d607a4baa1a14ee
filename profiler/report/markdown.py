"""The report as Markdown for a pull request: the same facts as the page, without charts.

Names and messages are hostile text here too: what Markdown, HTML or GitHub (mentions, mathematics) would act on is
escaped, and a value never ends its table cell.
"""

import re
from collections.abc import Sequence
from functools import cache

from jinja2 import Environment
from markupsafe import Markup

from profiler.comparison.case import Comparison
from profiler.data.text import for_markdown
from profiler.report import cells, words
from profiler.report.cells import COLUMNS, SIDES, Footnotes
from profiler.report.contents import RunInfo, collect_contents
from profiler.report.engine import environment
from profiler.report.peers import Peers

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ./:=+,_-]*")


def render_markdown(comparisons: Sequence[Comparison], about: RunInfo, others: Peers | None = None) -> str:
    """The whole report over `comparisons`, in their order, as Markdown that GitHub renders."""
    columns = [(group, column) for group, names in COLUMNS for column in names]
    return (
        markdown_environment()
        .get_template("report.md")
        .render(
            **collect_contents(comparisons, about, others),
            words=words,
            cells=cells,
            notes=Footnotes(),
            heads=[f"{group.lower()}, {column}" if column in SIDES else column for group, column in columns],
            right=[at for at, (_, column) in enumerate(columns) if column in (*SIDES, "error", "batch")],
        )
    )


@cache
def markdown_environment() -> Environment:
    """The engine of the `.md` templates: every value that is not `Markup` is escaped for Markdown instead of HTML."""
    engine = environment().overlay(finalize=lambda value: value if isinstance(value, Markup) else escape(str(value)))
    engine.filters = engine.filters | {"code": code}
    return engine


def escape(text: str) -> Markup:
    """`text` as Markdown that means itself: markup that the templates take as it is."""
    return Markup(for_markdown(text))


def code(text: str) -> Markup:
    """`text` in code type where nothing in it could end that; escaped prose otherwise."""
    return Markup(f"`{text}`") if PLAIN.fullmatch(text) else escape(text)
