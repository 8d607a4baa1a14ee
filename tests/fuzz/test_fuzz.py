"""A small part of `scripts/fuzz`, the same on every day."""

import importlib
from pathlib import Path

import pytest

from tests.fuzz import store
from tests.fuzz.trial import trials


@pytest.mark.parametrize(("name", "number"), [("store", 15), ("cache", 20)])
def test_no_input_ends_with_a_traceback_or_a_wrong_answer(name: str, number: int) -> None:
    kind = importlib.import_module(f"tests.fuzz.{name}")
    failed = [(value, error) for value, error in trials(kind, seed=1, number=number) if error is not None]
    assert failed == []


@pytest.mark.parametrize(
    ("value", "another"),
    [(b'"memory_bytes":4193280', b'"memory_bytes":"x"'), (b"no context size known", b"\\ud800")],
    ids=["a size that is text", "text that UTF-8 cannot say"],
)
def test_what_was_found_once_stays_mended(value: bytes, another: bytes, tmp_path: Path) -> None:
    records = store.good("report", "records.jsonl")
    assert value in records
    store.check({"command": "report", "file": "records.jsonl", "content": records.replace(value, another)}, tmp_path)
