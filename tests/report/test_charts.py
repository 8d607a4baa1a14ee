"""The charts: right places, text for screen readers, and nothing drawn that was not measured or estimated."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from profiler.comparison.case import compare_all
from profiler.report import charts
from profiler.report.charts import LogAxis, ShareAxis, power_label
from tests.report import records_factory as make

SVG = "{http://www.w3.org/2000/svg}"


def parse(svg):
    """The chart as XML: it is well-formed on its own."""
    return ElementTree.fromstring(str(svg).replace("<svg", f'<svg xmlns="{SVG[1:-1]}"', 1))


def texts(svg):
    return [text.text for text in parse(svg).iter(f"{SVG}text")]


def test_a_log_axis_ends_on_powers_of_two_and_holds_every_size():
    axis = LogAxis.over([3 << 20, 5 << 30], 0, 100)
    assert (axis.low, axis.high) == (21, 33)
    assert axis.at(2**21) == 0
    assert axis.at(2**33) == 100
    assert axis.at(2**27) == 50
    assert [label for _, label in axis.ticks] == ["2 MiB", "16 MiB", "128 MiB", "1 GiB", "8 GiB"]


def test_a_log_axis_over_one_size_is_not_empty():
    axis = LogAxis.over([1 << 30], 0, 100)
    assert axis.high > axis.low
    assert 0 < axis.at(1 << 30) < 100


@pytest.mark.parametrize("reach", [0.001, 0.016, 0.05, 0.3, 2.5])
def test_a_linear_axis_has_round_symmetric_ticks(reach):
    labels = [label for _, label in ShareAxis(-reach, reach, 0, 100).ticks]
    assert 5 <= len(labels) <= 9
    assert labels[len(labels) // 2] == "0"
    assert [label.replace("-", "+") for label in labels[::-1]][: len(labels) // 2] == labels[len(labels) // 2 + 1 :][
        ::-1
    ]


@pytest.mark.parametrize(("power", "label"), [(0, "1 B"), (9, "512 B"), (10, "1 KiB"), (26, "64 MiB"), (35, "32 GiB")])
def test_powers_of_two_have_binary_units(power, label):
    assert power_label(power) == label


def test_the_scatter_draws_rows_with_both_numbers_only():
    comparisons = compare_all(make.sample())
    drawn = charts.draw_agreement(comparisons)
    assert len(drawn["rows"]) == 5
    assert str(drawn["scatter"]).count('<g class="mark') == 4  # two fall on one place
    assert str(drawn["errors"]).count('<g class="mark') == 5


def test_without_a_pair_there_is_no_scatter():
    comparisons = compare_all([make.estimate_only(), make.crash()])
    assert charts.draw_agreement(comparisons) is None


def test_an_exact_row_stands_on_the_line_and_an_estimate_too_high_above_it():
    def height(record):
        """Units by which the mark stands above y = x."""
        svg = str(charts.draw_agreement(compare_all([record]))["scatter"])
        x, y = map(float, re.search(r"translate\(([\d.]+) ([\d.]+)\)", svg).groups())
        left, low, right, high = map(float, re.search(r'equal" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', svg).groups())
        return low + (x - left) / (right - left) * (high - low) - y

    assert height(make.exact()) == pytest.approx(0, abs=0.2)
    assert height(make.over()) > 1


def test_verdict_and_kind_are_shapes_not_only_colours():
    svg = str(charts.draw_agreement(compare_all([make.exact(), make.over(), make.on_cpu()]))["errors"])
    assert re.search(r'class="mark within".*<circle', svg)
    assert re.search(r'class="mark over".*<path', svg)
    assert 'class="mark within hollow"' in svg
    drawn = charts.draw_agreement(compare_all([make.exact(), make.over(), make.on_cpu()]))
    assert drawn["shapes"] == ["within", "over", "hollow"]
    assert charts.draw_agreement(compare_all([make.exact()]))["shapes"] == ["within"]


def test_rows_outside_the_tolerance_are_named():
    svg = charts.draw_agreement(compare_all([make.exact(), make.over()]))["errors"]
    assert "ltx-video-2b decode" in texts(svg)
    assert "wan2.1-t2v-1.3b decode" not in texts(svg)


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 1.5])
def test_any_tolerance_can_be_drawn(tolerance):
    comparisons = compare_all([make.exact()], tolerance)
    parse(charts.draw_agreement(comparisons)["scatter"])
    parse(charts.draw_agreement(comparisons)["errors"])


def test_thousands_of_cases_are_a_few_places_of_the_chart():
    drawn = charts.draw_agreement(compare_all([make.exact(), make.over()] * 50))
    assert str(drawn["scatter"]).count('<g class="mark') == 2
    assert "(and 49 more here)" in drawn["errors"]


def test_every_chart_speaks_to_a_screen_reader():
    comparisons = compare_all(make.sample())
    both = charts.draw_agreement(comparisons)
    for svg in map(parse, (both["scatter"], both["errors"])):
        assert svg.get("role") == "img"
        spoken = {part.get("id"): part.text for part in svg if part.tag in (f"{SVG}title", f"{SVG}desc")}
        assert svg.get("aria-labelledby").split() == list(spoken)
        assert all(spoken.values())


def test_a_hostile_name_stays_text_in_a_chart():
    comparisons = compare_all([replace(make.hostile(), status="ok", failure=None)])
    both = charts.draw_agreement(comparisons)
    for svg in (both["scatter"], both["errors"]):
        assert "<script" not in str(svg)
        assert "<img" not in str(svg)
        parse(svg)
