"""How an answer looks at a prompt and in a notebook: one line of text, and a small table whose every value is escaped."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from profiler.data.text import for_html, visible

if TYPE_CHECKING:
    import pandas as pd


def group_notes(notes: Mapping[str, str]) -> list[str]:
    """One line a reason, with all the figures that it is about."""
    about: dict[str, list[str]] = {}
    for name, reason in notes.items():
        about.setdefault(reason, []).append(name)
    return [f"{', '.join(names)}: {reason}" for reason, names in about.items()]


def first_notes(notes: Mapping[str, str]) -> dict[str, str]:
    """The notes that a reader has to see before any figure: what the whole answer rests on, the stack and the model."""
    return {name: text for name, text in notes.items() if name.startswith(("stack.", "model."))}


class Shown:
    """A record that says what it is. Subclasses give the line and the rows; sizes come with their unit."""

    @property
    def headline(self) -> str:
        """What this is, of what kind, and its main figure."""
        raise NotImplementedError

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Heads and rows."""
        raise NotImplementedError

    @property
    def remarks(self) -> Sequence[str]:
        """What a reader must know before the table, a line each."""
        return ()

    def __repr__(self) -> str:
        return visible(f"<{type(self).__name__} {self.headline}>")

    def _repr_html_(self) -> str:
        heads, rows = self.table
        lines = ["".join(f"<th>{for_html(text)}</th>" for text in heads)]
        lines += [
            f"<th>{for_html(first)}</th>" + "".join(f"<td>{for_html(text)}</td>" for text in rest)
            for first, *rest in rows
        ]
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        said = "".join(f"<p>{for_html(line)}</p>" for line in (self.headline, *self.remarks))
        return f"{said}<table>{body}</table>"


def frame_of(rows: list[dict[str, Any]], columns: tuple[str, ...] | None = None) -> "pd.DataFrame":
    """A data frame of `rows`: sizes (`..._bytes`) are integers and errors (`..._error`) fractions, unknown is NA.

    Without a row it has its `columns`.
    """
    import pandas as pd

    # As objects first: a column of integers with a gap would be read as floats, which are exact to 2^53 bytes only.
    frame = pd.DataFrame(rows, columns=columns, dtype=object)
    kinds = {"_bytes": "Int64", "_error": "Float64"}
    return frame.astype({name: kind for name in frame for end, kind in kinds.items() if str(name).endswith(end)})
