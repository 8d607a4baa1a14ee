"""The report as JSON for programs: the answer, the conditions, and the rows of the CSV with each case's causes."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from profiler.report.words import QUESTION


def render_json(contents: Mapping[str, Any]) -> str:
    """The report, as `collect_contents` gives it, as one document; sizes in bytes, unknown is null."""
    rows = []
    for comparison in contents["comparisons"]:
        found = comparison.record.explanation
        others = dict(contents["others"].get(comparison.record.key, {}))
        row = comparison.row | {"explanation": asdict(found) if found else None, "others_bytes": others}
        rows.append(json.dumps(row))
    data = {
        "title": contents["about"].title,
        "question": QUESTION,
        "answer": contents["answer"],
        "cautions": contents["cautions"],
        "conditions": dict(contents["about"].facts)
        | {"Kind of numbers": contents["kinds"], "Cases ran": contents["period"]},
        "stacks": [asdict(stack) | {"used": roles} for stack, roles in contents["uses"]],
    }
    cases = ",\n  ".join(rows)  # a line each
    return json.dumps(data, indent=1).removesuffix("\n}") + f',\n "cases": [\n  {cases}\n ]\n}}\n'
