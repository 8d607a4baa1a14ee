"""A small part of `scripts/fuzz`, the same on every day."""

import importlib

import pytest

from tests.fuzz.trial import trials


@pytest.mark.parametrize(("name", "number"), [("store", 25), ("cache", 25)])
def test_no_input_ends_with_a_traceback_or_a_wrong_answer(name: str, number: int) -> None:
    kind = importlib.import_module(f"tests.fuzz.{name}")
    failed = [(value, error) for value, error in trials(kind, seed=1, number=number) if error is not None]
    assert failed == []
