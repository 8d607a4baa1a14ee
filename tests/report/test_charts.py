"""The charts: right places, text for screen readers, and nothing drawn that was not measured or estimated."""

import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from profiler.comparison.case import compare, compare_all
from profiler.data.records import Memory, Terms
from profiler.report import charts
from profiler.report.charts import LogAxis, ShareAxis, power_label
from tests.report import records_factory as make

SVG = "{http://www.w3.org/2000/svg}"


def parse(svg):
    """The chart as XML: it is well-formed on its own."""
    return ElementTree.fromstring(str(svg).replace("<svg", f'<svg xmlns="{SVG[1:-1]}"', 1))


def texts(svg):
    return [text.text for text in parse(svg).iter(f"{SVG}text")]


def bars(svg, side):
    """Left and right edge of each bar of one side, terms and totals, from top to bottom."""
    group = next(group for group in parse(svg).iter(f"{SVG}g") if group.get("class") == side)
    paths = [path.get("d") for path in group.findall(f"{SVG}path") if path.get("class") != "dot"]
    found = [tuple(map(float, bar)) for path in paths for bar in re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v9", path)]
    return [(x, x + width) for x, _, width in sorted(found, key=lambda bar: bar[1])]


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
    assert str(drawn["scatter"]).count('<g class="mark') == 5
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


def test_the_terms_of_the_waterfall_start_where_the_one_above_ends():
    found = bars(charts.waterfall(compare(make.exact()), 1), "measured")
    weights, inputs, outputs, activations, workspace, allocated, cached, reserved, context, device = found
    chain = [weights, inputs, outputs, activations, workspace]
    for above, below in [*pairwise(chain), (allocated, cached), (reserved, context)]:
        assert below[0] == pytest.approx(above[1], abs=1)  # a bar below one unit is drawn one unit wide
    for start, total in ((workspace, allocated), (cached, reserved), (context, device)):
        assert total[1] == pytest.approx(start[1], abs=0.2)
    assert {allocated[0], reserved[0], device[0]} == {weights[0]}


def test_the_waterfall_prints_every_number_of_both_sides():
    found = texts(charts.waterfall(compare(make.over()), 1))
    for number in (
        "4.0 MiB",
        "242.2 MiB",
        "2.916 GiB",
        "2.832 GiB",
        "4.508 GiB",
        "4.424 GiB",
        "530.0 MiB",
        "5.833 GiB",
    ):
        assert number in found
    assert found.count("unknown") == 2  # the estimate's context and device bytes


def test_the_share_of_a_small_latent_is_written_beside_it():
    assert "1/1,493 of device" in texts(charts.waterfall(compare(make.exact()), 1))


def test_a_side_that_is_missing_is_not_drawn():
    svg = str(charts.waterfall(compare(make.estimate_only()), 1))
    assert 'class="estimated"' in svg
    assert 'class="measured"' not in svg


def test_an_unknown_has_no_bar_and_a_zero_has_none_either():
    record = make.exact()
    terms = Terms(weights=0, inputs=None, outputs=0, activations=1 << 20, workspace=None)
    small = replace(record.measurement, terms=terms, peak=Memory(allocated_bytes=1 << 20))
    svg = charts.waterfall(compare(replace(record, estimate=None, measurement=small)), 1)
    assert len(bars(svg, "measured")) == 2  # activations and allocated
    assert texts(svg).count("0 B") == 2
    assert texts(svg).count("unknown") == 7  # latent, inputs, workspace, cached, reserved, context, device


def test_without_numbers_there_is_no_waterfall():
    assert charts.waterfall(compare(make.crash()), 1) is None


def test_workspace_taken_over_from_the_measurement_is_called_so():
    assert "as measured" in texts(charts.waterfall(compare(make.on_cpu()), 1))


def test_every_chart_speaks_to_a_screen_reader():
    comparisons = compare_all(make.sample())
    both = charts.draw_agreement(comparisons)
    for svg in map(parse, (both["scatter"], both["errors"], charts.waterfall(comparisons[0], 7))):
        assert svg.get("role") == "img"
        spoken = {part.get("id"): part.text for part in svg if part.tag in (f"{SVG}title", f"{SVG}desc")}
        assert svg.get("aria-labelledby").split() == list(spoken)
        assert all(spoken.values())


def test_a_hostile_name_stays_text_in_a_chart():
    comparisons = compare_all([replace(make.hostile(), status="ok", failure=None)])
    both = charts.draw_agreement(comparisons)
    for svg in (both["scatter"], both["errors"], charts.waterfall(comparisons[0], 1)):
        assert "<script" not in str(svg)
        assert "<img" not in str(svg)
        parse(svg)
