"""Which case of a run is asked for: the workload itself, or the only one of its model and stage."""

from dataclasses import replace
from pathlib import Path

import pytest

from profiler.data.events import Stream
from profiler.data.workload import Workload
from profiler.diagnosis.sources import read_events
from profiler.errors import UserError
from profiler.files.store import RunHeader, RunStore
from profiler.files.streams import packed
from tests.report import records_factory as make

HEADER = RunHeader(title="t", sweep={}, command="c", created="now", fingerprint="f", version="0")
LARGE = replace(make.DECODE, height=960)


def keep(directory: Path, *workloads: Workload) -> Path:
    """A run of these cases with their measured events."""
    directory.mkdir()
    store = RunStore(directory)
    store.begin(HEADER)
    for workload in workloads:
        store.append(replace(make.record(workload), measurement=make.measurement(workload)))
        path = store.event_path(workload, "measured")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(packed(Stream([], [], [])))
    return directory


def test_of_two_sizes_the_one_that_was_asked(tmp_path: Path) -> None:
    run = keep(tmp_path / "run", make.DECODE, LARGE)
    assert read_events(run, LARGE)[0].workload == LARGE


def test_the_only_case_of_a_model_and_stage_serves_any_size(tmp_path: Path) -> None:
    run = keep(tmp_path / "run", make.DECODE, replace(make.DECODE, stage="encode"))
    assert read_events(run, LARGE)[0].workload == make.DECODE


def test_two_sizes_and_neither_was_asked(tmp_path: Path) -> None:
    run = keep(tmp_path / "run", make.DECODE, LARGE)
    with pytest.raises(UserError, match="no single case") as error:
        read_events(run, replace(make.DECODE, height=240))
    assert LARGE.key in str(error.value)
