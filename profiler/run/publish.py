"""Writes a run's report: one HTML page, Markdown for a pull request, CSV for a spreadsheet, JSON for programs."""

from datetime import UTC, datetime
from pathlib import Path

from profiler import __version__
from profiler.compare import compare_all, to_frame
from profiler.report.about import RunInfo
from profiler.report.html import render_html
from profiler.report.json import render_json
from profiler.report.markdown import render_markdown
from profiler.run.store import RunStore, write_atomically


def publish(directory: Path, tolerance: float | None = None) -> list[Path]:
    """Write `report.html`, `.md`, `.json` and `records.csv` beside the records of `directory`; returns their paths.

    They are made from the records alone and may be made again at any time. Raises UserError where there is no run.
    """
    store = RunStore(directory)
    header = store.header()
    comparisons = compare_all(store.records(), tolerance)
    about = RunInfo(
        title=header.title,
        command=header.command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        config_name=str(header.sweep.get("name")),
        directory=directory.name,
    )
    texts = {
        "report.html": render_html(comparisons, about),
        "report.md": render_markdown(comparisons, about),
        "report.json": render_json(comparisons, about),
        "records.csv": to_frame(comparisons).to_csv(index=False),
    }
    for name, text in texts.items():
        write_atomically(directory / name, text)
    return [directory / name for name in texts]
