"""Estimate against measurement: each verdict and each reason for having none, from hand-made records."""

import math
import re
from dataclasses import replace
from typing import get_args

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.comparison.case import (
    DEFAULT_TOLERANCE,
    Comparison,
    Pair,
    compare,
    compare_all,
    to_frame,
    within_tolerance,
)
from profiler.data.memory import TERMS, Memory, Terms
from profiler.data.records import Record, Status
from profiler.data.units import format_bytes
from profiler.report.words import write_answer
from tests.report import records_factory as factory

GIB = 1 << 30
sizes = st.integers(1, 1 << 50)


def pair_of(estimated: int | None, measured: int | None) -> Record:
    """A GPU record whose allocated peaks are these."""
    made = factory.record()
    return replace(
        made,
        estimate=replace(factory.estimate(), peak=Memory(allocated_bytes=estimated), terms=Terms()),
        measurement=replace(factory.measurement(), peak=Memory(allocated_bytes=measured), terms=Terms()),
    )


@pytest.mark.parametrize(
    ("estimated", "verdict"),
    [
        (GIB, "exact"),
        (GIB + 1, "within"),
        (GIB - 1, "within"),
        (GIB + GIB // 128, "within"),
        (GIB + GIB // 64, "over"),
        (GIB - GIB // 64, "under"),
    ],
)
def test_the_verdict_is_about_allocated_bytes(estimated: int, verdict: str) -> None:
    row = compare(pair_of(estimated, GIB))
    assert (row.verdict, row.reason, row.tolerance) == (verdict, "", 0.01)
    assert row.allocated == Pair(estimated=estimated, measured=GIB)


@pytest.mark.parametrize(
    ("more", "verdict", "passes"),
    [
        (GIB // 8, "within", True),
        (-GIB // 8, "within", True),
        (GIB // 8 + 1, "over", False),
        (-GIB // 8 - 1, "under", False),
    ],
)
def test_an_error_of_just_the_tolerance_is_within_it(more: int, verdict: str, passes: bool) -> None:
    row = compare(pair_of(GIB + more, GIB), 1 / 8)
    assert (row.verdict, within_tolerance(row)) == (verdict, passes)


@pytest.mark.parametrize(
    ("asked", "recorded", "used"), [(None, None, DEFAULT_TOLERANCE), (None, 0.2, 0.2), (0.3, 0.2, 0.3), (0.0, 0.2, 0.0)]
)
def test_the_tolerance_is_that_of_the_call_or_of_the_record(asked: float, recorded: float, used: float) -> None:
    record = replace(pair_of(GIB + GIB // 8, GIB), tolerance=recorded)
    row = compare(record, asked)
    assert row.tolerance == used
    assert row.verdict == ("within" if used >= 0.125 else "over")
    assert compare(pair_of(GIB, GIB), asked).verdict == "exact"


@given(sizes, sizes, st.floats(0, 2))
def test_verdict_and_error_agree(estimated: int, measured: int, tolerance: float) -> None:
    row = compare(pair_of(estimated, measured), tolerance)
    error = (estimated - measured) / measured
    assert row.allocated.error == error
    expected = "exact" if estimated == measured else "over" if error > 0 else "under"
    assert row.verdict == ("within" if expected != "exact" and abs(error) <= tolerance else expected)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        pytest.param(factory.oom(), r"^oom: CUDA out of memory\. Tried to allocate 30\.38 GiB", id="oom"),
        pytest.param(factory.crash(), "^crash: the worker ended by a signal", id="crash"),
        pytest.param(
            factory.record(status="timeout", measurement=None), "^timeout: no detail recorded", id="no detail"
        ),
        pytest.param(factory.estimate_only(), "^estimate only: nothing was measured", id="estimate only"),
        pytest.param(
            factory.record(estimate=None, notes={"estimate": "op without a meta kernel"}),
            "^op without a meta kernel$",
            id="no estimate",
        ),
        pytest.param(factory.elsewhere(), "^the estimate is for another stack: cudnn differ$", id="other stack"),
        pytest.param(pair_of(GIB, None), "^allocated bytes unknown$", id="not measured"),
        pytest.param(pair_of(None, GIB), "^allocated bytes unknown$", id="not estimated"),
        pytest.param(pair_of(GIB, 0), "^the measurement saw 0 B allocated$", id="zero measured"),
    ],
)
def test_a_row_that_is_not_comparable_says_why(record: Record, reason: str) -> None:
    row = compare(record)
    assert row.verdict == "not comparable"
    assert re.search(reason, row.reason)


def test_a_side_without_bytes_gives_its_own_note() -> None:
    record = pair_of(None, GIB)
    assert record.estimate
    noted = replace(record, estimate=replace(record.estimate, notes={"peak.allocated_bytes": "no rule for this op"}))
    assert compare(noted).reason == "no rule for this op"


def test_nothing_estimated_and_nothing_measured_is_exact() -> None:
    row = compare(pair_of(0, 0))
    assert (row.verdict, row.allocated.difference, row.allocated.error) == ("exact", 0, None)


@pytest.mark.parametrize(
    ("change", "comparable"),
    [
        ({"driver": "580.1"}, True),
        ({"python": "3.13.1"}, True),
        ({"cudnn": 92000}, False),
        ({"torch": "2.13.0"}, False),
        ({"gpu": "NVIDIA H100", "multiprocessors": 114}, False),
        ({"settings": {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}}, False),
    ],
)
def test_stacks_may_differ_in_what_changes_no_bytes(change: dict[str, object], comparable: bool) -> None:
    record = factory.record()
    assert record.estimate
    record = replace(record, estimate=replace(record.estimate, stack=replace(factory.GPU, **change)))
    row = compare(record)
    assert (row.verdict == "exact") is comparable
    if not comparable:
        assert row.reason == f"the estimate is for another stack: {', '.join(sorted(change))} differ"


def test_workspace_that_only_the_cpu_measurement_knows_is_added_to_both_sides() -> None:
    record = factory.on_cpu()
    assert record.estimate
    assert record.measurement
    borrowed = record.measurement.terms.workspace
    assert borrowed
    assert record.estimate.terms.workspace is None
    row = compare(record)
    assert row.verdict == "exact"
    more = format_bytes(borrowed)
    assert row.reason == f"CPU kernels borrowed {more} more than tensors (measured, added to both sides)"
    assert row.allocated.measured == record.measurement.peak.allocated_bytes
    assert row.allocated.estimated == (record.estimate.peak.allocated_bytes or 0) + borrowed
    assert (row.terms["workspace"].estimated, row.terms["workspace"].measured) == (None, borrowed)


def test_an_error_in_the_tensors_is_not_hidden_by_the_cpu_workspace() -> None:
    row = compare(factory.on_cpu(off=200_000_000))
    assert (row.verdict, row.allocated.difference) == ("over", 200_000_000)
    assert row.reason.startswith("CPU kernels borrowed 92.1 MiB more")


def test_the_cpu_workspace_stands_beside_another_reason() -> None:
    record = factory.on_cpu()
    assert record.estimate
    row = compare(replace(record, estimate=replace(record.estimate, stack=replace(factory.CPU, torch="2.12.0"))))
    assert row.verdict == "not comparable"
    assert row.reason.startswith("the estimate is for another stack: torch differ; CPU kernels borrowed")


def test_workspace_that_was_estimated_is_not_added_again() -> None:
    record = factory.exact()
    assert record.estimate
    assert compare(record).allocated.estimated == record.estimate.peak.allocated_bytes


def test_each_level_and_each_term_has_its_own_pair() -> None:
    row = compare(factory.exact())
    record = row.record
    assert record.estimate
    assert record.measurement
    assert tuple(row.terms) == TERMS
    for name, pair in row.terms.items():
        assert pair.estimated == getattr(record.estimate.terms, name)
        assert pair.measured == getattr(record.measurement.terms, name)
    assert row.reserved.difference == (880 - 912) * (1 << 20)
    assert row.device.estimated is None
    assert row.device.measured is not None
    assert row.device.error is None


def test_a_tolerance_that_is_no_number_passes_nothing_but_the_exact() -> None:
    assert not within_tolerance(compare(pair_of(GIB + 1, GIB), math.nan))
    assert within_tolerance(compare(pair_of(GIB, GIB), math.nan))


@pytest.mark.parametrize("side", ["estimate", "measurement"])
@pytest.mark.parametrize("level", ["allocated", "reserved", "device"])
def test_a_record_whose_terms_do_not_add_up_is_invalid_and_says_so(side: str, level: str) -> None:
    context = 512 << 20
    whole = replace(factory.measurement() if side == "measurement" else factory.estimate())
    known = replace(whole, terms=replace(whole.terms, context=context),
                    peak=replace(whole.peak, device_bytes=(whole.peak.reserved_bytes or 0) + context))  # fmt: skip
    assert factory.record(**{side: known}).status == "ok"
    peak = replace(known.peak, **{f"{level}_bytes": (getattr(known.peak, f"{level}_bytes") or 0) + 1})
    record = factory.record(**{side: replace(known, peak=peak)})
    row = compare(record)
    assert (record.status, row.verdict, within_tolerance(row)) == ("invalid", "not comparable", False)
    assert re.search(f"^invalid: the terms of the {known.kind} peak add up to [0-9,]+ B, {level} is", row.reason)


@pytest.mark.parametrize(
    ("record", "passes"),
    [
        (factory.exact(), True),
        (factory.within(), True),
        (factory.over(), False),
        (factory.elsewhere(), False),
        (factory.estimate_only(), True),
        (factory.skipped(), True),
        (factory.oom(), False),
        (factory.crash(), False),
        (factory.record(status="timeout", measurement=None), False),
        (factory.record(status="invalid", measurement=None), False),
    ],
    ids=lambda value: value.key if isinstance(value, Record) else None,
)
def test_what_passes_where_a_tolerance_was_asked(record: Record, passes: bool) -> None:
    assert within_tolerance(compare(record)) is passes


def test_whatever_is_neither_done_nor_left_out_failed_for_the_verdict_and_for_the_report() -> None:
    for status in get_args(Status):
        row = compare(factory.record(status=status, measurement=None))
        assert (not within_tolerance(row)) == ("failed (1" in write_answer([row])) == (status not in ("ok", "skipped"))


def test_no_row_is_dropped_and_the_order_stays() -> None:
    records = factory.sample()
    rows: list[Comparison] = compare_all(iter(records))
    assert [row.record for row in rows] == records


def test_the_frame_of_no_case_has_its_columns() -> None:
    assert list(to_frame([])) == list(to_frame(compare_all(factory.sample())))
    assert to_frame([]).to_csv(index=False).startswith("key,model,stage,")


def test_the_frame_has_whole_bytes_and_na_for_what_is_unknown() -> None:
    rows = compare_all(factory.sample())
    frame = to_frame(rows)
    assert list(frame["key"]) == [row.record.key for row in rows]
    sizes = [name for name in frame if str(name).endswith("_bytes")]
    assert len(sizes) == 2 * (3 + len(TERMS)) + 3
    assert {str(frame[name].dtype) for name in sizes} == {"Int64"}
    frame = frame.set_index("key")
    assert frame.loc[factory.exact().key, "allocated_measured_bytes"] == rows[0].allocated.measured
    for column in ("allocated_measured_bytes", "weights_measured_bytes", "device_estimated_bytes"):
        assert frame.loc[factory.estimate_only().key, column] is pd.NA
    assert frame.loc[factory.estimate_only().key, "allocated_error"] is pd.NA
    assert frame.loc[factory.estimate_only().key, "device_kind"] == "estimated"
    assert frame.loc[factory.crash().key, "verdict"] == "not comparable"


def test_bytes_beyond_what_a_float_can_hold_stay_exact() -> None:
    huge = (1 << 60) + 1
    frame = to_frame(compare_all([pair_of(huge, None), pair_of(None, GIB)]))
    assert frame.loc[0, "allocated_estimated_bytes"] == huge
    assert frame.loc[1, "allocated_estimated_bytes"] is pd.NA


@pytest.mark.parametrize(
    ("pressure", "verdict"), [({"alloc_retries": 1, "ooms": 0}, "exact"), ({"ooms": 2}, "not comparable")]
)
def test_a_full_card_is_comparable_unless_plans_had_to_give_way(pressure: dict[str, int], verdict: str) -> None:
    record = pair_of(GIB, GIB)
    assert record.measurement is not None
    readings = tuple(replace(r, **pressure) if r.phase == "cold" else r for r in record.measurement.readings)
    row = compare(replace(record, measurement=replace(record.measurement, readings=readings)))
    assert row.verdict == verdict
    assert ("the card was full" in row.reason) == (verdict != "exact")
