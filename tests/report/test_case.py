"""What a workload's section says beside its chart, and the stacks that the numbers are for."""

from dataclasses import replace

from profiler.comparison.case import compare, compare_all
from profiler.data.memory import Memory, PhaseLevels, PhasePeak
from profiler.data.units import format_bytes
from profiler.report.case import readings
from profiler.report.cells import Footnotes, step_cell, unexplained, waterfall_steps, why_unknown
from profiler.report.conditions import period, stack_rows, stack_uses
from profiler.report.contents import RunInfo, collect_contents
from profiler.report.markdown import render_markdown
from profiler.report.section import make_section
from tests.report import records_factory as make


def table_of(source):
    """The heads and rows of the readings, and the lines below them."""
    _, (*_, heads, rows), *lines = readings(source, Footnotes())
    return heads, rows, [text for _, text in lines]


def test_warm_calls_that_differ_in_time_only_are_one_row():
    _, rows, _ = table_of(make.measurement())
    assert [name for name, *_ in rows] == [
        "start",
        "model",
        "inputs",
        "cold",
        "warm 1 to 3, alike",
        "watched op by op",
    ]
    assert rows[4][-1] == "4.01 to 4.03"


def test_warm_calls_that_differ_in_bytes_stand_apart():
    measurement = make.measurement()
    first = measurement.warm[0]
    changed = replace(first, peak=replace(first.peak, allocated_bytes=1))
    changed_readings = tuple(changed if reading is first else reading for reading in measurement.readings)
    _, rows, _ = table_of(replace(measurement, readings=changed_readings))
    assert [name for name, *_ in rows][4:7] == ["warm 1", "warm 2", "warm 3"]


def test_a_failed_case_shows_the_phases_that_it_came_through():
    came = make.measurement(stack=make.CPU).readings[:3]
    heads, rows, lines = table_of(replace(make.oom().failure, readings=came))
    assert [name for name, *_ in rows] == ["start", "model", "inputs"]
    (line,) = [line for line in lines if line.endswith(" (not said by the case, which failed).")]
    assert line.startswith("Unknown in every phase: peak reserved, peak device")
    assert format_bytes(rows[1][heads.index("end allocated")]) == "242.2 MiB"


def test_a_reading_that_is_unknown_in_every_phase_is_named_with_its_reason_and_is_no_column():
    heads, _, lines = table_of(make.measurement(stack=make.CPU))
    assert "peak reserved" not in heads
    assert "Unknown in every phase: peak reserved, peak device (the CPU has no caching allocator)." in lines


def test_a_reading_that_is_zero_in_every_phase_is_not_unknown():
    _, _, lines = table_of(make.measurement())
    assert lines[0] == "0 in every phase: retries, OOMs."


def blocks_of(record):
    return [block for column in make_section(compare(record), frozenset(), Footnotes()) for block in column]


def test_an_option_that_was_asked_for_and_not_reported_is_shown():
    record = make.over()
    silent = replace(record, measurement=replace(record.measurement, options={}))
    (rows,) = [block[4] for block in blocks_of(silent) if block[2:3] == ["Memory options"]]
    asked, estimated, measured = next(row for name, *row in rows if name == "slicing")
    assert asked == "yes"
    assert measured == "not reported"
    assert "not applied" in estimated


def test_the_two_peaks_are_told_once_where_they_agree():
    first = {
        record.key: blocks_of(record)[blocks_of(record).index(["h", "At the peak"]) + 1]
        for record in (make.exact(), make.over())
    }
    titles = [[title for title, _ in facts if "Output" not in title] for _, facts in first.values()]
    assert titles == [["Measured and estimated"], ["Measured", "Estimated"]]


def test_tensors_that_are_alike_are_counted():
    first, second, *_ = make.alive(1 << 30)
    record = make.exact()
    twice = replace(record, measurement=replace(record.measurement, largest=(first, second, first)))
    (rows,) = [block[4] for block in blocks_of(twice) if block[3:] and block[3][0] == "Size" and "Made by" in block[3]]
    assert [row[0] for row in rows] == [f"2 \u00d7 {format_bytes(first.bytes)}", second.bytes]


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
    assert [stack.title.split(",")[0] for stack, _ in uses] == ["NVIDIA H200", "CPU", "NVIDIA H200", "NVIDIA H200"]
    assert uses[0][1] == "measured on (4 cases), estimated for (4 cases), tried on (2 cases)"
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


def test_a_generation_has_its_phases_from_both_sides_in_a_chart_and_a_table():
    gib = 1 << 30
    ours = [
        PhasePeak(name=name, call=call, peak=Memory(allocated_bytes=size, reserved_bytes=4 * gib), weights={"unet": gib},
                  live=0, activations=size - gib)
        for name, call, size in (("load", 0, gib), ("decode", 1, 2 * gib), ("decode", 2, 2 * gib))
    ]  # fmt: skip
    theirs = [PhaseLevels(name=phase.name, call=phase.call, peak=phase.peak) for phase in ours[:2]]
    theirs[1] = replace(theirs[1], peak=Memory(allocated_bytes=2 * gib - 512, reserved_bytes=4 * gib))
    record = replace(
        make.record(),
        estimate=make.estimate(phases=tuple(ours)),
        measurement=make.measurement(phases=tuple(theirs), pinned_bytes=8),
    )
    found = blocks_of(record)
    (chart,) = [block for block in found if block[0] == "chart"]
    assert chart[3] == [
        ["load", "term", gib, gib], ["decode", "term", 2 * gib, 2 * gib - 512], ["decode 2", "total", 2 * gib, "unknown"],
    ]  # fmt: skip
    (table,) = [
        block for block in found if block[0] == "table" and block[3][0] == "Phase" and "estimated minus" in block[3][-1]
    ]
    heads, rows = table[3:]
    assert heads[1:5] == ["allocated, estimated", "allocated, measured", "reserved, estimated", "reserved, measured"]
    assert [(row[0], row[-1]) for row in rows] == [
        (["load", "unet 1.000 GiB", None], "0"),
        (["decode", "unet 1.000 GiB", None], "+512 B allocated"),
        (["decode 2", "unet 1.000 GiB", None], "unknown"),
    ]
    (origins,) = [block[1] for block in found if block[0] == "dl" and block[1][0][0] == "Key"]
    assert ["Pinned on the host", "8 B measured, unknown estimated"] in origins
    page = render_markdown(collect_contents(compare_all([record]), RunInfo(title="t")))
    assert "| decode<br>unet 1.000 GiB | 2.000 GiB | 2.000 GiB | 4.000 GiB | 4.000 GiB | +512 B allocated |" in page
