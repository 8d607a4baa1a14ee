"""Two runs side by side. Records are made up; sizes are chosen so that each change is what its name says."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiler import compare
from profiler.comparison.runs import Delta, sentence
from profiler.data.memory import Terms
from profiler.data.records import Record
from profiler.data.units import MIB
from profiler.files.store import RunHeader, RunStore
from tests.report.records_factory import GPU, measurement, on_cpu, oom, sample, within

Latentmeter = Callable[..., Any]


def larger(record: Record, size: int) -> Record:
    """The record with `size` bytes more measured."""
    found = measurement(record.workload, activations=2_900 * MIB + size)
    return replace(record, measurement=found)


def test_each_case_says_how_it_changed() -> None:
    first, second, third = sample()[:3]
    before = [first, second, third, on_cpu()]
    after = [larger(first, 300 * MIB), second, larger(third, -MIB), oom()]
    found = compare(before, after)
    assert [(case.change, case.allocated.bytes) for case in found.cases] == [
        ("rose", 300 * MIB),
        ("equal", 0),
        ("fell", -MIB),
        ("missing", None),
        ("new", None),
    ]
    assert [case.kind for case in found.cases] == ["cuda", "cuda", "cuda", "cpu", "oom"]
    assert sentence(found) == (
        "1 rose, 1 equal, 1 fell, 1 missing, 1 new; the most +6.62 % (300.0 MiB): "
        "wan2.1-t2v-1.3b/decode/81x480x832/b1/bf16."
    )


def test_a_measurement_is_never_laid_beside_an_estimate() -> None:
    (case,) = compare([within()], [replace(within(), measurement=None)]).cases
    assert (case.change, case.allocated.bytes) == ("not comparable", None)
    assert case.reason == "cuda in the first run, estimated in the second"


def estimated_for(card: str, record: Record) -> Record:
    assert record.estimate is not None
    there = replace(GPU, gpu=card)
    made = replace(record.estimate, stack=there)
    key = f"{record.workload.key}@{card}"
    return replace(record, key=key, stack=there, estimate=made, measurement=None, status="ok", failure=None)


def test_estimates_for_two_cards_are_joined_and_the_cards_are_shown() -> None:
    first, second = sample()[:2]
    h200, l40s = ([estimated_for(card, record) for record in (first, second)] for card in ("H200", "L40S"))
    found = compare(h200, l40s)
    assert [(case.key, case.kind, case.card, case.change) for case in found.cases] == [
        (record.workload.key, "estimated", "H200 -> L40S", "equal") for record in (first, second)
    ]
    both = compare([*h200, *l40s], [*l40s, estimated_for("T4", first)])
    assert [case.card for case in both.cases] == ["H200 -> T4", "H200", "L40S", "L40S"]
    assert [case.change for case in both.cases] == ["equal", "missing", "equal", "equal"]


def test_an_estimate_is_joined_with_an_estimate_before_a_measurement() -> None:
    record = within()
    found = compare([record, estimated_for("H200", record)], [estimated_for("L40S", record)])
    assert [(case.kind, case.change) for case in found.cases] == [("cuda", "missing"), ("estimated", "equal")]
    (case,) = compare([record], [estimated_for("H200", record)]).cases
    assert (case.change, case.reason) == ("not comparable", "cuda in the first run, estimated in the second")


def test_a_limit_that_is_no_number_passes_nothing_that_rose() -> None:
    first = sample()[0]
    found = compare([first, within()], [larger(first, 300 * MIB), within()])
    assert [case.key for case in found.failures(float("nan"))] == [first.key]
    assert Delta(0, MIB).rose_over(1e9)  # no share of nothing
    assert not Delta(None, MIB).rose_over(0)


def test_what_failed_anew_is_a_failure_whatever_the_limit() -> None:
    good = replace(oom(), status="ok", measurement=measurement(oom().workload), failure=None)
    found = compare([good], [oom()])
    assert [case.key for case in found.failures(10.0)] == [good.key]
    assert "CUDA out of memory" in found.cases[0].reason
    assert compare([oom()], [oom()]).failures(0) == []


def test_failures_look_at_reserved_bytes_too() -> None:
    grown = larger(within(), 0)
    assert grown.measurement is not None
    peak = grown.measurement.peak
    more = replace(peak, reserved_bytes=(peak.reserved_bytes or 0) * 2)
    made = replace(grown.measurement, peak=more, terms=Terms())
    found = compare([within()], [replace(grown, measurement=made)])
    assert (found.cases[0].change, len(found.failures(0.02)), len(found.failures(1.5))) == ("equal", 1, 0)


def test_stacks_differ_by_field_and_setting() -> None:
    other = replace(GPU, torch="2.13.0", settings=GPU.settings | {"PYTORCH_ALLOC_CONF": "expandable_segments:True"})
    after = replace(within(), measurement=measurement(within().workload, other))
    assert compare([within()], [after]).stack == {
        "torch": ("2.9.1+cu128", "2.13.0"),
        "PYTORCH_ALLOC_CONF": ("expandable_segments:False", "expandable_segments:True"),
    }


def test_the_frame_keeps_bytes_whole_and_gaps_unknown() -> None:
    frame = compare(sample(), sample()).to_frame()
    assert list(frame["key"]) == [record.key for record in sample()]
    assert frame["allocated_before_bytes"].dtype == "Int64"
    assert bool(frame["allocated_before_bytes"].isna().any())


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """A run, and one with a case that rose by 6.6 %."""
    first = sample()[0]
    return write(tmp_path / "a", [first, within()]), write(tmp_path / "b", [larger(first, 300 * MIB), within()])


def write(folder: Path, records: Sequence[Record]) -> Path:
    store = RunStore(folder)
    with store.writing():
        store.begin(RunHeader(title="t", sweep={}, command="c", created="2026", fingerprint="f", version="0"))
        for record in records:
            store.append(record)
    return folder


@pytest.mark.parametrize(("limit", "code"), [("5%", 1), ("7", 0)])
def test_the_command_fails_over_the_limit(
    latentmeter: Latentmeter, runs: tuple[Path, Path], limit: str, code: int
) -> None:
    answer = latentmeter("compare", *runs, "--fail-over", limit)
    assert answer.code == code
    assert ("FAILED wan2.1" in answer.out) == bool(code)
    assert "+6.62 %" in answer.out


def test_json_is_one_document(latentmeter: Latentmeter, runs: tuple[Path, Path]) -> None:
    answer = latentmeter("compare", *runs, "--json")
    found = json.loads(answer.out)
    assert [case["change"] for case in found["cases"]] == ["rose", "equal"]
    assert (answer.code, found["failures"], found["stack"]) == (0, [], {})


@pytest.mark.parametrize(
    "arguments", [("here", "nowhere"), *(("a", "b", "--fail-over", text) for text in ("much", "nan", "inf"))]
)
def test_a_mistake_is_the_users(latentmeter: Latentmeter, arguments: tuple[str, ...]) -> None:
    assert latentmeter("compare", *arguments).code == 2
