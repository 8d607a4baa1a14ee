"""Reads a report page the way a browser's parser does, for tests: its tags, and the text of its tables' cells."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """`tags` holds every start tag with its attributes; `cells` the text of each cell of `#cases`, a list a row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.cells: list[list[str]] = []
        self._in_cases = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append((tag, values))
        if tag == "table":
            self._in_cases = values.get("id") == "cases"
        elif tag == "tr":
            self.cells.append([])
        elif tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_data(self, data: str) -> None:
        if self._in_cases and self.cells and self.cells[-1]:
            self.cells[-1][-1] += data.strip()

    def handle_endtag(self, tag: str) -> None:
        self._in_cases = self._in_cases and tag != "table"

    @property
    def rows(self) -> list[list[str]]:
        """The cases: rows of the table that have all sixteen columns and a figure or a reason in them."""
        return [row for row in self.cells if len(row) == 16 and any(row)][1:]

    def attributes(self, name: str) -> list[str]:
        """Every value of one attribute."""
        return [attributes[name] for _, attributes in self.tags if name in attributes]
