"""Statements of Python by the instruction that ran."""

import ast
import linecache
from functools import cache
from pathlib import Path
from types import CodeType

LONGEST = 100  # characters of a statement


def line_of(code: CodeType, instruction: int) -> tuple[str, str]:
    """`package/file.py:line` of the statement that an instruction belongs to, and its text on one line, shortened."""
    positions = list(code.co_positions())[instruction // 2]
    file, line = code.co_filename, positions[0] or code.co_firstlineno
    first, text = _statements(file).get(line, (line, linecache.getline(file, line)))
    text = " ".join(text.split())
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    parts = Path(file).parts
    start = parts.index("site-packages") + 1 if "site-packages" in parts else -1
    return f"{'/'.join(parts[start:])}:{first}", text


@cache
def _statements(file: str) -> dict[int, tuple[int, str]]:
    """By line: the first line and the text of the simple statement that it belongs to; of others the header's lines."""
    lines = linecache.getlines(file)
    found: dict[int, tuple[int, str]] = {}
    try:
        tree = ast.parse("".join(lines))
    except SyntaxError:
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            text = "".join(lines[node.lineno - 1 : max(last, node.lineno)])
            found |= dict.fromkeys(range(node.lineno, last + 1), (node.lineno, text))
    return found
