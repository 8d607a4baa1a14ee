"""Text of somebody else (names, messages, paths) made harmless: a function for each medium that a person reads.

Names come from model files, records and error messages, which anyone may have written. They may hold what a terminal, a
spreadsheet, Markdown or HTML acts on. What is written by hand in this package needs none of this.
"""

import csv
import io
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from html import escape
from typing import Any

MARKDOWN = re.compile(r"([\\`*_\[\]|~$])")


def visible(text: str) -> str:
    """`text` for a terminal: what is neither printable, a line's end nor a tab is written as its escape, as in `\\x1b`.

    That takes the power of control characters, of those that turn the direction of writing, and of surrogates, which
    UTF-8 cannot hold.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def for_html(text: str) -> str:
    """`text` for an HTML page or a notebook, also inside an attribute's quotes."""
    return escape(visible(text))


def for_markdown(text: str) -> str:
    """`text` as one line of Markdown that means itself, in a paragraph and in a table's cell, and mentions nobody."""
    line = " ".join(visible(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKDOWN.sub(r"\\\1", line).replace("@", "@<!-- -->").replace("#", "&#35;")


def for_csv(value: object) -> str:
    """A value as a cell. Text that a spreadsheet would take for a formula gets an apostrophe, which it shows as text."""
    if not isinstance(value, str):
        return str(value)
    return visible(f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value)


def write_csv(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([["" if value is None else for_csv(value) for value in row] for row in rows])
    return text.getvalue()


def did_you_mean(name: str, known: Sequence[str], titles: Mapping[str, str] | None = None) -> str:
    """A question that names up to three of `known` that begin with or are like `name`; empty where none is.

    They begin so, too, where their `titles` do. Capitals, spaces and marks do not count: "FLUX.1 [dev]" is flux.1-dev.
    """
    wanted = _letters(name[:80])
    letters = {_letters(text): one for one in known for text in ((titles or {}).get(one, one), one)}
    begun = [one for text, one in letters.items() if wanted and text.startswith(wanted)]
    like = [letters[text] for text in get_close_matches(wanted, letters)]
    near = [*dict.fromkeys([*begun, *like])][:3]
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text.lower())


def typed(*words: str, **options: Any) -> str:
    """A command line of `words` and `options`, quoted for a shell; True is a switch, None is left out, a tuple given item
    by item."""
    given = [*words]
    for name, values in options.items():
        for value in values if isinstance(values, tuple) else (values,):
            if value is not None:
                given += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(given)


def fit_command(model: str, asked: Mapping[str, Any]) -> str:
    """What to type for `latentmeter fit`, the same being asked: `asked` as the verbs take it."""
    stage = asked.get("stage", "decode")
    batch = asked.get("prompts") or asked.get("batch") or 1
    size = {name: asked.get(name) for name in ("frames", "height", "width")} | {"batch": batch if batch > 1 else None}
    names = ("dtype", "text_length", "steps", "lora", "gpu", "vram", "reserve", "torch", "cudnn")
    rest = {name: asked.get(name) for name in names}
    return typed("latentmeter", "fit", model, stage=None if stage == "generate" else stage, **size, **rest)
