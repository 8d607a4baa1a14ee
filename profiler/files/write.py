"""Writes files whole or not at all, so that whoever dies while writing leaves the old file, never half a new one."""

import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content`, text as UTF-8; makes its folder where there is none. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    temporary.replace(path)
