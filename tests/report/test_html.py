"""The page: one file, no network, nothing unescaped, nothing left blank, small enough for 200 workloads."""

import base64
import hashlib
import re

import pytest

from profiler.comparison.case import compare_all
from profiler.report.contents import RunInfo
from profiler.report.html import render_html
from tests.report import records_factory as make
from tests.report.page import Page

ABOUT = RunInfo(
    title="sample", command="latentmeter run sample.yaml", created="2026-11-20T12:00:00+00:00", version="0.1.0"
)


def render(*records, about=ABOUT):
    return render_html(compare_all(records), about)


@pytest.fixture(scope="module")
def everything():
    return render(*make.sample())


def fragment(html, start, end):
    return html[html.index(start) : html.index(end)]


def test_the_page_loads_nothing(everything):
    page = Page(everything)
    assert {link for link in page.attributes("href") if not link.startswith("#")} == {"data:,"}
    assert page.attributes("src") == page.attributes("srcset") == page.attributes("action") == []
    assert not re.search(r"https?:|url\((?!#)|@import|fetch\(|XMLHttpRequest|import\(", everything)


def test_the_policy_allows_exactly_the_style_and_the_script_of_the_page(everything):
    policy = next(a["content"] for tag, a in Page(everything).tags if a.get("http-equiv") == "Content-Security-Policy")
    for name in ("style", "script"):
        (text,) = re.findall(f"<{name}>(.*?)</{name}>", everything, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_the_page_has_no_inline_style_and_no_handler_which_the_policy_would_stop(everything):
    assert not [
        name for _, attributes in Page(everything).tags for name in attributes if name == "style" or name[:2] == "on"
    ]


@pytest.mark.parametrize("field", ["title", "command", "created", "version", "config_name", "directory"])
def test_hostile_conditions_stay_text(field):
    fields = {"title": "sample", field: make.HOSTILE}
    assert_harmless(render(make.exact(), about=RunInfo(**fields)))


def test_hostile_records_stay_text():
    html = render(make.hostile())
    assert_harmless(html)
    assert "{{7*7}}" in html
    assert "{% x %}" in html


def assert_harmless(html):
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "img" not in {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_every_case_is_a_row_in_order_and_no_cell_is_blank(everything):
    rows = Page(everything).rows
    assert [row[0] for row in rows] == [record.workload.model for record in make.sample()]
    assert all(cell for row in rows for cell in row)


def test_an_unknown_figure_says_unknown_and_why(everything):
    page = Page(everything)
    device = page.rows[0][14]
    assert re.fullmatch(r"unknown\d+", device)
    number = device.removeprefix("unknown")
    assert f'<li id="n{number}">no context size known for this card' in everything
    notes = {link[1:] for link in page.attributes("href") if link.startswith("#n")}
    assert notes <= set(page.attributes("id"))


def test_a_row_shows_its_numbers_with_units_and_the_reason_of_its_verdict(everything):
    over = Page(everything).rows[1]
    assert over[8:11] == ["4.508 GiB", "4.424 GiB", "+1.89 %"]
    assert over[11] == "overtolerance 1 %"
    assert Page(everything).rows[8][11] == "not comparablethe estimate is for another stack: cudnn differ"


def test_ids_are_unique_and_links_lead_somewhere(everything):
    page = Page(everything)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.attributes("href") if link.startswith("#")} <= set(ids)


def test_the_first_workloads_stand_open_and_each_has_a_section(everything):
    cases = [attributes for tag, attributes in Page(everything).tags if attributes.get("class") == "case"]
    assert ["open" in case for case in cases] == [True] * 3 + [False] * 6


def test_what_failed_is_told_in_full(everything):
    failures = everything[everything.index('id="failures"') :]
    for text in (
        "30.384 GiB (32,624,345,088 B)",
        "PID 4711 has 127.38 GiB",
        "logs/hunyuan-video.log",
        "SIGSEGV",
        "-11",
    ):
        assert text in failures
    assert "the time budget of 30 minutes was spent" in failures


def test_several_stacks_are_announced(everything):
    assert "4 stacks are present." in everything
    assert "stacks are present" not in render(make.exact())


def test_numbers_of_the_cpu_are_announced():
    html = render(make.on_cpu(), make.estimate_only())
    assert "<p>These are CPU numbers. No GPU was measured.</p>" in html


def test_without_a_pair_the_page_says_why_there_is_no_chart():
    assert "There is no chart: no case has both an estimate and a measurement." in render(make.estimate_only())


def test_a_run_without_cases_is_still_a_page():
    html = render()
    assert "Nothing was run" in html
    assert "No case failed, and none was skipped." in html


def test_conditions_that_were_not_recorded_say_so():
    assert render(make.exact(), about=RunInfo(title="bare")).count("not recorded") == 5


def test_two_hundred_workloads_stay_under_two_megabytes():
    assert len(render(*[make.exact()] * 200).encode()) < 2_000_000


def test_the_table_and_a_section_look_as_they_should(snapshot):
    html = render(make.over(), make.on_cpu())
    assert fragment(html, '<section id="table">', '<section id="chart">') == snapshot(name="table")
    assert fragment(html, '<details class="case" id="w2"', '<section id="failures">') == snapshot(name="section")


def test_causes_and_what_is_unexplained_stand_in_the_section_and_in_the_verdict():
    html = render(make.explained())
    assert "+5.7 MiB of workspace only measured in encoder.conv_in" in html
    assert "<td>+6,000,000" in html
    assert "<td>+1,000,000" in html
    assert "events of 1 case were laid side by side: 1,000,000 B of their differences are not explained." in html


def test_others_formulas_stand_beside_the_quantity_they_are_for():
    peers = {make.exact().key: {"invokeai": 2 << 30, "weights-only": 254_000_128, "comfyui": None}}
    html = render_html(compare_all([make.exact()]), RunInfo(title="t"), peers)
    assert "<li>Weights: latentmeter 0.00 % (1), weights-only 0.00 % (1)" in html
    assert "invokeai 60.51 % (1)" in html
    assert "comfyui 0" not in html
