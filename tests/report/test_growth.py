"""Growth of the peak: which cases make a line, and what the reader is told of it."""

from dataclasses import replace
from typing import Any

from profiler.comparison.case import compare_all
from profiler.data.units import MIB
from profiler.report.growth import draw_growth
from tests.report import records_factory as make


def sized(frames: int = 81, height: int = 480, activations: int = 1_000, model: str = "wan2.1-t2v-1.3b"):
    workload = replace(make.DECODE, model=model, frames=frames, height=height)
    found = make.measurement(workload, activations=activations * MIB)
    return replace(make.record(workload), measurement=found)


def draw(*records) -> list[dict[str, Any]]:
    return draw_growth(compare_all(records))


def test_a_line_joins_cases_that_differ_in_frames_alone():
    other = replace(sized(161), workload=replace(sized(161).workload, dtype="fp32"))
    (chart,) = draw(sized(81), sized(41, activations=400), other)
    (line,) = chart["series"]
    assert chart["over"] == "frames"
    assert [x for x, _ in line.points] == [41, 81]
    assert line.name == "wan2.1-t2v-1.3b decode, 480\u00d7832, bf16, NVIDIA H200"
    assert line.words.startswith("1.98 times as much, ")
    assert str(chart["drawing"]).count("<circle") == 4


def test_each_card_has_a_line_of_its_own():
    cards = []
    for record in (sized(81), sized(41)):
        stack = replace(make.GPU, gpu="NVIDIA L4")
        found = replace(record.measurement, stack=stack)
        cards += [record, replace(record, stack=stack, measurement=found)]
    (chart,) = draw(*cards)
    assert [line.name.rpartition(", ")[2] for line in chart["series"]] == ["NVIDIA H200", "NVIDIA L4"]
    assert [[x for x, _ in line.points] for line in chart["series"]] == [[41, 81]] * 2


def test_area_has_a_chart_of_its_own():
    assert [chart["over"] for chart in draw(sized(), sized(41), sized(height=960))] == ["frames", "area in pixels"]


def test_where_both_change_the_pixels_count():
    assert [chart["over"] for chart in draw(sized(), sized(41, 960))] == ["pixels of the clip"]


def test_the_largest_lines_are_drawn_and_the_others_counted():
    names = [f"model-{number}" for number in range(8)]
    records = [
        sized(frames, model=name, activations=frames * (n + 1)) for n, name in enumerate(names) for frames in (41, 81)
    ]
    (chart,) = draw(*records)
    assert (len(chart["series"]), chart["hidden"]) == (6, 2)
    assert chart["series"][0].name.startswith("model-7")


def test_lines_that_end_in_one_place_share_a_label():
    (chart,) = draw(sized(41), sized(81), sized(41, model="same"), sized(81, model="same"))
    assert ">1, 2</text>" in chart["drawing"]


def test_without_two_sizes_there_is_no_chart():
    assert draw(*make.sample()) == []


def test_a_case_without_a_known_peak_is_no_point():
    record = sized(41)
    peak = replace(record.measurement.peak, allocated_bytes=None)
    unknown = replace(record, estimate=None, measurement=replace(record.measurement, peak=peak))
    (chart,) = draw(unknown, sized(61), sized(81))
    assert [x for x, _ in chart["series"][0].points] == [61, 81]
