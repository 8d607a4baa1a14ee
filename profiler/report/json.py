"""The report as JSON for programs: the answer, the conditions, and the rows of the CSV with each case's causes."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from profiler.comparison.case import Comparison, to_frame
from profiler.report.contents import RunInfo, collect_contents
from profiler.report.peers import Peers
from profiler.report.words import QUESTION


def render_json(comparisons: Sequence[Comparison], about: RunInfo, others: Peers | None = None) -> str:
    """One document; sizes in bytes, unknown is null."""
    contents = collect_contents(comparisons, about, others)
    rows = json.loads(to_frame(comparisons).to_json(orient="records", double_precision=15))
    for row, comparison in zip(rows, comparisons, strict=True):
        found = comparison.record.explanation
        row["explanation"] = asdict(found) if found else None
        row["others_bytes"] = dict((others or {}).get(comparison.record.key, {}))
    data = {
        "title": about.title,
        "question": QUESTION,
        "answer": contents["answer"],
        "cautions": contents["cautions"],
        "conditions": dict(about.facts) | {"Kind of numbers": contents["kinds"], "Cases ran": contents["period"]},
        "stacks": [asdict(use.stack) | {"used": use.roles} for use in contents["uses"]],
        "cases": rows,
    }
    return json.dumps(data, indent=1) + "\n"
