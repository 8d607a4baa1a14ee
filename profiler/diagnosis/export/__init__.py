"""Profiles in the formats of other tools: each writer is a pure function from a profile to text or bytes.

Time in them is the number of the allocator's event: an estimate has no clock.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from profiler.diagnosis.export import chrome, snapshot, texts
from profiler.diagnosis.profile import Profile
from profiler.errors import UserError
from profiler.files.write import write_atomically

Writer = Callable[[Profile], bytes]
WRITERS: Mapping[str, tuple[str, Writer]] = {
    "snapshot": ("snapshot.pickle", snapshot.write),
    "chrome": ("trace.json", chrome.write),
    "csv": ("events.csv", texts.write_csv),
    "stacks": ("stacks.txt", texts.write_stacks),
}


def parse_exports(asked: tuple[str, ...], directory: Path | None) -> dict[str, Path]:
    """Files by kind, `asked` for as `KIND=FILE`, and a directory for all kinds. Raises UserError."""
    paths = {kind: directory / name for kind, (name, _) in WRITERS.items()} if directory else {}
    for text in asked:
        kind, separator, path = text.partition("=")
        if kind not in WRITERS or not separator or not path:
            raise UserError(f"export: expected KIND=FILE with KIND one of {', '.join(WRITERS)}, got {text!r}")
        paths[kind] = Path(path)
    return paths


def write_exports(profile: Profile, paths: Mapping[str, Path]) -> None:
    """Write each kind to its file; folders are made."""
    for kind, path in paths.items():
        write_atomically(path, WRITERS[kind][1](profile))
