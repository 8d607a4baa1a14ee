"""The page: one file, no network, nothing unescaped, nothing left blank, small with thousands of cases."""

import base64
import hashlib
import json
import re
from dataclasses import replace

import pytest

from profiler.comparison.case import compare_all
from profiler.data.records import Failure
from profiler.report.contents import RunInfo, collect_contents
from profiler.report.engine import asset
from profiler.report.html import render_html
from profiler.report.markdown import render_markdown
from tests.report import records_factory as make
from tests.report.many import many
from tests.report.page import Page

ABOUT = RunInfo(
    title="sample", command="latentmeter run sample.yaml", created="2026-11-20T12:00:00+00:00", version="0.1.0"
)


def render(*records, about=ABOUT):
    return render_html(collect_contents(compare_all(records), about))


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
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "img" not in {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_the_script_makes_no_markup_of_data():
    script = asset("page.js")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|Function\(|DOMParser", script)


def test_every_case_is_a_row_in_order_and_no_cell_is_blank(everything):
    page = Page(everything)
    assert page.column("model") == [record.workload.model for record in make.sample()]
    assert all(cell not in ("", None) for row in page.data[0]["rows"] for cell in row)
    assert len(page.data) == 1 + len(make.sample())


def test_an_unknown_figure_says_unknown_and_why(everything):
    page = Page(everything)
    content, _, number = page.column("device, estimated")[0]
    assert content == "unknown"
    assert page.data[0]["notes"][number - 1] == "no context size known for this card"


def test_a_row_shows_its_bytes_and_the_reason_of_its_verdict(everything):
    page = Page(everything)
    names = ("allocated, estimated", "allocated, measured", "error", "verdict")
    assert [page.column(name)[1] for name in names] == [
        4840608384,
        4750608384,
        "+1.89 %",
        "over",
    ]
    assert "tolerance 1 %" in page.data[0]["alike"]
    assert page.column("verdict")[8][:2] == ["not comparable", "the estimate is for another stack: cudnn differ"]


def test_what_every_row_says_is_said_once():
    page = Page(render(make.on_cpu(), make.on_cpu(off=512)))
    assert {"batch", "status", "kind", "reserved, measured"}.isdisjoint(page.data[0]["heads"])
    said = "; ".join(page.data[0]["alike"])
    assert "batch: 1; dtype: fp32; options: none; kind: measured (CPU); status: ok" in said
    assert "reserved, measured: unknown (the CPU has no caching allocator)" in said
    assert "batch" in Page(render(make.on_cpu())).data[0]["heads"]  # of a single case nothing is repeated


def test_ids_are_unique_and_links_lead_somewhere(everything):
    page = Page(everything)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    drawn = {f"w{number}" for number, _ in enumerate(page.data[1:], 1)}  # by the script
    assert {link[1:] for link in page.attributes("href") if link.startswith("#")} <= {*ids, *drawn}


def test_what_failed_is_told_in_full(everything):
    failures = fragment(everything, 'id="failures"', '<section id="chart">')
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


def sections(html):
    return [attributes["id"] for tag, attributes in Page(html).tags if tag == "section"]


def test_the_cases_stand_before_the_conditions_and_empty_sections_are_left_out(everything):
    assert sections(everything) == ["table", "failures", "chart", "conditions", "workloads"]
    assert sections(render(make.estimate_only())) == ["table", "conditions", "workloads"]
    assert sections(render()) == ["conditions"]
    assert "Nothing was run" in render()


def test_a_skipped_case_shows_its_reason_and_no_traceback():
    failure = Failure(phase="model", message="framewise: cannot be applied", exit_code=3, log="Traceback of ours")
    skipped = replace(make.skipped(), failure=failure)
    html = render(skipped, make.exact())
    text = html + json.dumps(Page(html).data) + render_markdown(collect_contents(compare_all([skipped]), ABOUT))
    assert text.count("framewise: cannot be applied") >= 2
    assert "Traceback of ours" not in text and "Exit code" not in html
    crashed = render(replace(skipped, status="crash"))
    assert "Traceback of ours" in crashed and "Exit code" in crashed


def test_a_reason_that_ended_several_cases_is_told_once():
    html = render(make.skipped(), make.exact(), make.skipped())
    assert html.count("the time budget of 30 minutes was spent") == 1
    assert '<a href="#w1">' in html and '<a href="#w3">' in html


def test_conditions_that_were_not_recorded_say_so():
    assert render(make.exact(), about=RunInfo(title="bare")).count("not recorded") == 5


def test_hundreds_of_real_cases_stay_small():
    html = render_html(collect_contents(compare_all(many(500)), ABOUT))
    assert len(html.encode()) < 400_000
    assert len(Page(html).data) == 501


def test_a_dry_run_is_called_so_wherever_its_figures_stand():
    record = make.exact()
    stack = replace(make.GPU, settings={"LATENTMETER_DRY": "1"})
    dry = replace(record, measurement=replace(record.measurement, device_kind="dry", stack=stack))
    html = render(dry, dry)
    page = Page(html)
    assert "allocated, dry run" in page.data[0]["heads"]
    text = html + json.dumps(page.data)
    assert "dry run of (2 cases)" in html
    assert not re.findall(r"[^.]{0,40}(?<!nothing )(?<!was )(?<!were not )measured on[^.]{0,40}", text, re.IGNORECASE)
    assert "Largest tensors alive at the dry run peak" in text and "Measured" not in json.dumps(page.data)
    assert render_markdown(collect_contents(compare_all([dry, dry]), ABOUT)).count("allocated, dry run") == 1


def test_a_page_of_a_later_day_says_of_when_its_estimates_are():
    about = replace(ABOUT, estimator="0.1.0", created="2026-11-26T00:00:00+00:00")
    html = render(make.exact(), about=about)
    assert "made by latentmeter 0.1.0, 2026-11-20; this page is of 2026-11-26 and shows them as they were" in html
    same = render(make.exact(), about=replace(about, created="2026-11-20T23:00:00+00:00"))
    assert "made by latentmeter 0.1.0, 2026-11-20." in same and "this page is of" not in same


def test_a_section_looks_as_it_should(snapshot):
    page = Page(render(make.over(), make.on_cpu()))
    lines = [json.dumps(part, ensure_ascii=False) for part in page.data[0].items()]
    lines += [json.dumps(block, ensure_ascii=False) for column in page.data[2] for block in column]
    assert "\n".join(lines) == snapshot


def test_causes_and_what_is_unexplained_stand_in_the_section_and_in_the_verdict():
    html = render(make.explained())
    head, section = Page(html).data
    assert "+5.7 MiB of workspace only measured in encoder.conv_in" in json.dumps(head["rows"])
    rows = next(block[4] for block in section[2] if block[0] == "table" and block[3][0] == "Bytes")
    assert [row[0] for row in rows] == ["+6,000,000", "+1,000,000"]
    assert "events of 1 case were laid side by side: 1,000,000 B of their differences are not explained." in html


def test_others_formulas_stand_beside_the_quantity_they_are_for():
    peers = {make.exact().key: {"invokeai": 2 << 30, "weights-only": 254_000_128, "comfyui": None}}
    html = render_html(collect_contents(compare_all([make.exact()]), RunInfo(title="t"), peers))
    assert "<li>Weights: latentmeter 0.00 % (1), weights-only 0.00 % (1)" in html
    assert "invokeai 60.51 % (1)" in html
    assert "comfyui 0" not in html
    rows = next(block[4] for block in Page(html).data[1][2] if block[0] == "table" and block[3][0] == "Formula of")
    assert ["invokeai", "Growth of reserved", 2 << 30, "-60.51 %"] in rows
