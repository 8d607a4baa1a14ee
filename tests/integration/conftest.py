"""Fixtures of the tests that start real processes."""

import pytest


@pytest.fixture(autouse=True)
def _one_thread_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels this small gain nothing from a second thread, and lose seconds waiting for it on a busy machine."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
