"""What a workload's section says beside its chart, and the stacks that the numbers are for."""

from dataclasses import replace

from profiler.comparison.case import compare, compare_all
from profiler.report.case import count_alike, option_rows, peak_sides, reading_table
from profiler.report.cells import Footnotes, step_cell, unexplained, waterfall_steps, why_unknown
from profiler.report.conditions import period, stack_rows, stack_uses
from tests.report import records_factory as make


def test_warm_calls_that_differ_in_time_only_are_one_row():
    table = reading_table(make.measurement(), Footnotes())
    names = [name for name, _ in table.rows]
    assert names == ["start", "model", "inputs", "cold", "warm 1 to 3, alike", "watched op by op"]
    assert table.rows[4][1][-1].text == "4.01 to 4.03"


def test_warm_calls_that_differ_in_bytes_stand_apart():
    measurement = make.measurement()
    first = measurement.warm[0]
    changed = replace(first, peak=replace(first.peak, allocated_bytes=1))
    readings = tuple(changed if reading is first else reading for reading in measurement.readings)
    table = reading_table(replace(measurement, readings=readings), Footnotes())
    assert [name for name, _ in table.rows][4:7] == ["warm 1", "warm 2", "warm 3"]


def test_a_failed_case_shows_the_phases_that_it_came_through():
    readings = make.measurement(stack=make.CPU).readings[:3]
    table = reading_table(replace(make.oom().failure, readings=readings), Footnotes())
    assert [name for name, _ in table.rows] == ["start", "model", "inputs"]
    assert table.unknown["not said by the case, which failed"][:2] == ["peak reserved", "peak device"]
    assert table.rows[1][1][table.heads.index("end allocated")].text == "242.2 MiB"


def test_a_reading_that_is_unknown_in_every_phase_is_named_with_its_reason_and_is_no_column():
    table = reading_table(make.measurement(stack=make.CPU), Footnotes())
    assert "peak reserved" not in table.heads
    assert table.unknown["the CPU has no caching allocator"] == ["peak reserved", "peak device"]


def test_a_reading_that_is_zero_in_every_phase_is_not_unknown():
    table = reading_table(make.measurement(), Footnotes())
    assert table.zero == ["retries", "OOMs"]


def test_an_option_that_was_asked_for_and_not_reported_is_shown():
    record = make.over()
    silent = replace(record, measurement=replace(record.measurement, options={}))
    rows = {name: row for name, *row in option_rows(silent)}
    asked, estimated, measured = rows["slicing"]
    assert asked
    assert measured is None
    assert not estimated.applied


def test_the_two_peaks_are_told_once_where_they_agree():
    assert [title for title, _ in peak_sides(make.exact())] == ["Measured and estimated"]
    assert [title for title, _ in peak_sides(make.over())] == ["Measured", "Estimated"]


def test_tensors_that_are_alike_are_counted():
    first, second, *_ = make.alive(1 << 30)
    assert count_alike((first, second, first)) == [(2, first), (1, second)]


def test_the_reason_of_an_unknown_comes_from_the_notes_or_says_that_there_is_none():
    record = make.exact()
    assert why_unknown(record, "estimated", "peak.device_bytes") == "no context size known for this card"
    assert why_unknown(record, "estimated", "terms.weights") == "no reason was recorded"
    whole = replace(record, measurement=replace(record.measurement, notes={"terms": "not watched"}))
    assert why_unknown(whole, "measured", "terms.weights") == "not watched"
    assert why_unknown(make.crash(), "estimated", "peak.allocated_bytes") == "not asked for"
    assert why_unknown(make.oom(), "measured", "peak.allocated_bytes") == "oom: nothing was measured"


def test_workspace_that_was_measured_only_is_said_to_be_measured():
    comparison = compare(make.on_cpu())
    workspace = next(step for step in waterfall_steps(comparison) if step.name == "workspace")
    notes = Footnotes()
    estimated = step_cell(comparison, workspace, "estimated", notes)
    assert workspace.borrowed
    assert estimated.detail == "as measured"
    assert notes.reasons[estimated.note - 1] == "no rules for CPU kernels: only tensors are estimated"
    assert estimated.content == step_cell(comparison, workspace, "measured", notes).content


def test_terms_that_do_not_add_up_leave_a_number():
    record = make.exact()
    peak = replace(record.measurement.peak, allocated_bytes=record.measurement.peak.allocated_bytes + 512)
    short = replace(record, measurement=replace(record.measurement, peak=peak))
    assert unexplained(waterfall_steps(compare(record))).measured == 0
    assert unexplained(waterfall_steps(compare(short))).measured == 512


def test_each_stack_stands_once_with_what_it_was_used_for():
    uses = stack_uses(compare_all(make.sample()))
    assert [use.stack.title.split(",")[0] for use in uses] == ["NVIDIA H200", "CPU", "NVIDIA H200", "NVIDIA H200"]
    assert uses[0].roles == "measured on (4 cases), estimated for (4 cases), tried on (2 cases)"
    rows = {label: row for label, *row in stack_rows(uses)}
    texts, differs = rows["cuDNN"]
    assert texts == ["9.10.2", "none: CPU", "9.10.2", "9.20.0"]
    assert differs


def test_a_cpu_alone_has_no_rows_about_a_gpu():
    labels = [label for label, _, _ in stack_rows(stack_uses(compare_all([make.on_cpu()])))]
    assert labels == ["torch", "diffusers", "Python"]


def test_the_period_is_that_of_the_records():
    later = replace(make.exact(), started="2026-11-20T11:00:00+00:00")
    text = period(compare_all([later, make.exact()]))
    assert text.startswith("2026-11-20T10:00:00+00:00 to 2026-11-20T11:00:00+00:00")
    assert text.endswith("76.4 s in all")
