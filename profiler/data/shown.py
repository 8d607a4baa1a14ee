"""How an answer looks at a prompt and in a notebook: one line of text, and a small table whose every value is escaped."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


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
    def row(self) -> dict[str, Any]:
        """The figures by name, in bytes, for a data frame."""
        raise NotImplementedError

    def to_frame(self) -> "pd.DataFrame":
        """One row; sizes in bytes, unknown as NA."""
        import pandas as pd

        frame = pd.DataFrame([self.row], dtype=object)
        return frame.astype({name: "Int64" for name in frame if str(name).endswith("_bytes")})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.headline}>"

    def _repr_html_(self) -> str:
        heads, rows = self.table
        lines = ["".join(f"<th>{escape(text)}</th>" for text in heads)]
        lines += [
            f"<th>{escape(first)}</th>" + "".join(f"<td>{escape(text)}</td>" for text in rest) for first, *rest in rows
        ]
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<p>{escape(self.headline)}</p><table>{body}</table>"
