"""Reads a report page the way a browser does, for tests: its tags, and the data that its script draws."""

import gzip
import json
import re
from base64 import b64decode
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """`tags` holds every start tag with its attributes, `data` the page's documents: the table, then a section a case."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(html)
        (packed,) = re.findall(r'<script type="application/gzip" id="data">([A-Za-z0-9+/=]*)</script>', html)
        self.data: list[Any] = [json.loads(line) for line in gzip.decompress(b64decode(packed)).decode().split("\n")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def column(self, name: str) -> list[Any]:
        """The cells of a column of the table of cases."""
        return [row[self.data[0]["heads"].index(name)] for row in self.data[0]["rows"]]

    def attributes(self, name: str) -> list[str]:
        """Every value of one attribute."""
        return [attributes[name] for _, attributes in self.tags if name in attributes]
