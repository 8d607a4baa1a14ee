"""Writes a run's report (a HTML page, Markdown for a pull request, CSV and JSON), and that of accuracy."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler._version import __version__
from profiler.comparison.case import COLUMNS, Comparison, compare_all
from profiler.data.text import write_csv
from profiler.errors import LatentmeterError
from profiler.evidence.accuracy import GROUP, errors, summarize
from profiler.evidence.peers import peer_figures
from profiler.files.store import RunStore
from profiler.files.write import check_output, write_atomically
from profiler.models.catalog import model_ids
from profiler.models.find import find_model
from profiler.models.spec import ModelSpec
from profiler.report.accuracy import render_accuracy
from profiler.report.contents import RunInfo, collect_contents
from profiler.report.html import render_html
from profiler.report.json import render_json
from profiler.report.markdown import render_markdown
from profiler.report.peers import Peers

if TYPE_CHECKING:
    import pandas as pd


def publish(
    directory: str | Path, tolerance: float | None = None, models: Mapping[str, ModelSpec] | None = None
) -> list[Path]:
    """Write `report.html`, `.md`, `.json` and `records.csv` beside the records of `directory`; returns their paths.

    They are made from the records alone and may be made again at any time. `models` are those that the caller has found
    already, by name. Raises UserError where there is no run.
    """
    store = RunStore(directory := Path(directory))
    header = store.header_or_none()
    check_output(directory, "folder")
    comparisons = compare_all(store.records(), tolerance)
    about = RunInfo(
        title=header.title if header else f"{directory.name} (run.json is damaged or gone)",
        command=header.command if header else "not known: run.json is damaged or gone",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        config_name=str(header.sweep.get("name") if header else directory.name),
        directory=directory.name,
        estimator=header.version if header else "unknown",
    )
    contents = collect_contents(comparisons, about, _others(comparisons, models or {}))
    texts = {
        "report.html": render_html(contents),
        "report.md": render_markdown(contents),
        "report.json": render_json(contents),
        "records.csv": write_csv(COLUMNS, (list(row.row.values()) for row in comparisons)),
    }
    return _write(texts, directory)


def _others(comparisons: Iterable[Comparison], models: Mapping[str, ModelSpec]) -> Peers:
    """What others' formulas say of each case; nothing for a model whose file is not here: no network is asked for it."""
    found = (comparison.record for comparison in comparisons)
    records = {record.key: record.workload for record in found if record.workload.generation is None}
    known = dict(models)
    for name in {workload.model for workload in records.values()} - known.keys():
        with suppress(LatentmeterError):
            if name in model_ids() or os.path.exists(name):  # noqa: PTH110
                known[name] = find_model(name)
    return {key: peer_figures(work, known[work.model]) for key, work in records.items() if work.model in known}


def publish_accuracy(frame: "pd.DataFrame", about: Mapping[str, str], directory: Path) -> list[Path]:
    """Write `accuracy.md`, `accuracy.csv` (a row a case) and `accuracy.json` into `directory`; returns their paths."""
    texts = {
        "accuracy.md": render_accuracy(frame, about),
        "accuracy.csv": write_csv(list(map(str, frame)), frame.astype(object).where(frame.notna(), None).to_numpy()),
        "accuracy.json": json.dumps(accuracy_data(frame, about), separators=(",", ":")) + "\n",
    }
    return _write(texts, directory)


def _write(texts: Mapping[str, str], directory: Path) -> list[Path]:
    for name, text in texts.items():
        write_atomically(directory / name, text)
    return [directory / name for name in texts]


def accuracy_data(frame: "pd.DataFrame", about: Mapping[str, str]) -> dict[str, Any]:
    """The conditions, and a line for each group, predictor and quantity, as JSON-ready data."""
    groups = summarize(errors(frame), GROUP).reset_index()
    lines: list[dict[str, Any]] = json.loads(groups.to_json(orient="records"))
    return {"about": dict(about), "groups": lines, "not_compared": int((frame["reason"] != "").sum())}
