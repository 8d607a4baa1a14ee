"""Many records, of the kind that a long sweep leaves: the real ones under `results/`, each again at other sizes."""

import json
from itertools import count, islice
from pathlib import Path
from typing import Any

from profiler.data.records import Record
from profiler.data.workload import Workload
from profiler.files.load import from_dict

RESULTS = Path(__file__).parents[2] / "results"


def many(number: int) -> list[Record]:
    """`number` records, every key once. Sums still hold: all bytes of a record are multiplied by one whole number."""
    lines = [line for path in sorted(RESULTS.rglob("records.jsonl")) for line in path.read_text("utf-8").splitlines()]
    real = [json.loads(line) for line in lines]
    found = (_vary(data, times, at) for times in count(1) for at, data in enumerate(real))
    return [from_dict(Record, data) for data in islice(found, number)]


def _vary(data: dict[str, Any], times: int, at: int) -> dict[str, Any]:
    """A record at a batch of its own, so that its key is new, and with `times` the bytes."""
    made: dict[str, Any] = _multiply(data, times)
    work = made["workload"] | {"batch": 1 + at + 1000 * (times - 1)}
    made["workload"] = work
    made["key"] = from_dict(Workload, work).key + data["key"][len(from_dict(Workload, data["workload"]).key) :]
    for side in ("estimate", "measurement"):
        if made[side]:
            made[side]["workload"] = work
    return made


def _multiply(data: Any, times: int, name: str = "") -> Any:
    if isinstance(data, dict):
        sizes = name in ("terms", "explanation")
        return {key: _multiply(value, times, "bytes" if sizes else key) for key, value in data.items()}
    if isinstance(data, list):
        return [_multiply(value, times, name) for value in data]
    return data * times if isinstance(data, int) and not isinstance(data, bool) and name.endswith("bytes") else data
