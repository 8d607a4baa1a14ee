"""The page in Chromium, driven by Playwright: it renders, sorts, filters, prints, and asks no network for anything.

The browser is the system's (Debian package chromium); Playwright's own download is not used.
"""

import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from profiler.comparison.case import compare_all
from profiler.data.memory import Memory, Terms
from profiler.data.records import Record
from profiler.data.units import format_bytes
from profiler.diagnosis.hotspots import summarize
from profiler.report.contents import RunInfo, collect_contents
from profiler.report.hotspots import render_page
from profiler.report.html import render_html
from tests.diagnosis.handmade import Story
from tests.report import records_factory as make

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[dev]'")
CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium found: apt-get install chromium"),
]


@dataclass
class Opened:
    """A page, and what it complained of or asked for while it was open."""

    page: Any
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def column(self, name: str) -> list[str]:
        """The shown cells of a column."""
        heads = self.page.locator("#cases thead th").all_inner_texts()
        rows = self.page.locator("#cases tbody tr:not([hidden])").all()
        return [row.locator("th, td").nth(heads.index(name)).inner_text().split("\n")[0] for row in rows]

    def sort(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).first.click()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


Open = Callable[..., Opened]


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Open the report over records: `show(make.sample(), color_scheme="dark", width=390)`."""
    contexts = []

    def opened(records: list[Record], title: str = "sample", width: int = 1280, **options: Any) -> Opened:
        path = tmp_path / "report.html"
        text = render_html(collect_contents(compare_all(records), RunInfo(title=title)))
        path.write_text(text, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        found = Opened(context.new_page())
        found.page.on("console", lambda message: found.console.append(message.text))
        found.page.on("pageerror", lambda error: found.console.append(str(error)))
        found.page.on("dialog", lambda dialog: (found.console.append(dialog.message), dialog.dismiss()))
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.goto(path.as_uri())
        assert found.requests[:1] == [path.as_uri()]
        if options.get("java_script_enabled", True):
            found.page.wait_for_selector("html[data-drawn]")
        return found

    yield opened
    for context in contexts:
        context.close()


def quiet(found: Opened) -> bool:
    """No message, no error, and no request but that for the file itself (the icon is empty data)."""
    return found.console == [] and all(url == "data:," for url in found.requests[1:])


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_it_renders_quietly_and_nothing_overflows(show: Open, color_scheme: str, width: int) -> None:
    found = show(make.sample(), color_scheme=color_scheme, width=width)
    assert found.page.locator("h1").inner_text() == "sample"
    assert found.page.locator("svg[role=img]").count() >= 2
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    paper = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 23, 24)"}[color_scheme]
    assert quiet(found)


def test_a_run_without_a_case_opens_without_an_error(show: Open) -> None:
    assert quiet(show([]))


def test_hostile_records_do_not_run(show: Open) -> None:
    found = show([make.hostile()], title=make.HOSTILE)
    found.page.locator("#filter").fill("<img")
    assert found.page.locator("h1").inner_text().startswith("<script>alert(1)</script>")
    assert found.page.locator("script").count() == 2  # the data, and what draws it
    assert found.page.locator("img").count() == 0
    assert quiet(found)


def test_every_column_sorts_both_ways_and_unknown_stays_last(show: Open) -> None:
    found = show(make.sample())
    assert found.page.locator("#cases thead button").count() == 16  # the batch is 1 everywhere: said once, no column
    found.sort("model")
    assert found.column("model") == sorted(record.workload.model for record in make.sample())
    found.sort("error")
    up = found.column("error")
    found.sort("error")
    down = found.column("error")
    assert up[:5] == ["-0.15 %", "0 %", "0 %", "0 %", "+1.89 %"]
    assert down[:5] == up[:5][::-1]
    assert all(text.startswith("unknown") for text in [*up[5:], *down[5:]])
    assert found.page.locator("[aria-sort=descending]").inner_text() == "error"
    assert quiet(found)


def test_the_filter_leaves_cases_with_all_words_and_their_sections(show: Open) -> None:
    found = show(make.sample())
    found.page.get_by_label("Show cases with").fill("decode  LTX")
    assert found.column("model") == ["ltx-video-2b"]
    assert found.page.locator(".filter output").inner_text() == "1 of 9"
    assert found.page.locator("details.case:visible").count() == 1
    found.page.locator("#filter").fill("")
    assert len(found.column("model")) == 9
    assert found.page.locator("details.case:visible").count() == 9


def test_of_thousands_of_rows_some_stand_and_the_filter_and_sorting_reach_all(show: Open) -> None:
    found = show(make.sample())
    more = found.page.locator("#more")
    assert more.is_hidden()
    found.page.evaluate("most = 3; showRows()")
    names = sorted(record.workload.model for record in make.sample())
    found.sort("model")
    assert found.column("model") == names[:3]
    assert more.inner_text() == "Show the other 6 rows"
    assert found.page.locator("details.case:visible").count() == 9
    found.page.locator("#filter").fill(names[-1])
    assert set(found.column("model")) == {names[-1]} and more.is_hidden()
    found.page.locator("#filter").fill("")
    found.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert found.page.locator("#cases tbody tr:visible").count() == 9
    found.page.evaluate("dispatchEvent(new Event('afterprint'))")
    more.click()
    assert found.column("model") == names and more.is_hidden()
    assert quiet(found)


def test_data_of_a_chart_is_a_click_away(show: Open) -> None:
    found = show(make.sample())
    data = found.page.locator("#w1 figure details")
    assert not data.locator("table").is_visible()
    data.locator("summary").click()
    assert data.locator("table").is_visible()


def test_a_link_opens_the_section_of_its_case(show: Open) -> None:
    found = show(make.sample())
    section = found.page.locator("#w5")
    assert section.get_attribute("open") is None
    found.page.locator("#cases a[href='#w5']").click()
    assert section.get_attribute("open") is not None


def test_printing_opens_every_case_and_closes_them_again(show: Open, tmp_path: Path) -> None:
    found = show(make.sample())
    found.page.locator("#filter").fill("decode")
    opened = "document.querySelectorAll('details.case[open]').length"
    before = found.page.evaluate(opened)
    found.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert found.page.evaluate(opened) == len(make.sample())
    found.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert found.page.evaluate(opened) == before == 3
    assert len(found.page.pdf()) > 50_000
    assert quiet(found)


def test_without_its_script_it_gives_the_answer_and_names_the_files_that_have_the_cases(show: Open) -> None:
    found = show(make.sample(), java_script_enabled=False)
    assert found.page.locator(".answer").inner_text().startswith("2 of 3 workloads within 1 %")
    assert found.page.locator("#failures h3").count() == 3
    assert "report.md and records.csv" in found.page.locator("#unread").inner_text()
    assert show(make.sample()).page.locator("#unread").count() == 0


def bars(found: Opened, side: str) -> list[tuple[float, float]]:
    """Left and right edge of each bar of one side in the first case's waterfall, from top to bottom."""
    paths = found.page.locator(f"#w1 svg .{side} path:not(.dot)").evaluate_all(
        "all => all.map(p => p.getAttribute('d'))"
    )
    drawn = [tuple(map(float, bar)) for path in paths for bar in re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v9", path)]
    return [(x, x + width) for x, _, width in sorted(drawn, key=lambda bar: bar[1])]


def test_the_terms_of_the_waterfall_start_where_the_one_above_ends(show: Open) -> None:
    found = bars(show([make.exact()]), "measured")
    weights, inputs, outputs, activations, workspace, allocated, cached, reserved, context, device = found
    chain = [weights, inputs, outputs, activations, workspace]
    for above, below in [*pairwise(chain), (allocated, cached), (reserved, context)]:
        assert below[0] == pytest.approx(above[1], abs=1)  # a bar below one unit is drawn one unit wide
    for start, total in ((workspace, allocated), (cached, reserved), (context, device)):
        assert total[1] == pytest.approx(start[1], abs=0.2)
    assert {allocated[0], reserved[0], device[0]} == {weights[0]}


def test_the_waterfall_prints_every_number_and_speaks_to_a_screen_reader(show: Open) -> None:
    found = show([make.over()])
    texts = found.page.locator("#w1 svg text").all_text_contents()
    sizes = ("4.0 MiB", "242.2 MiB", "2.916 GiB", "2.832 GiB", "4.508 GiB", "4.424 GiB", "530.0 MiB", "5.833 GiB")
    assert set(sizes) <= set(texts)
    assert "1/1,493 of device" in texts
    assert texts.count("unknown") == 2  # the estimate's context and device bytes
    drawing = found.page.locator("#w1 svg")
    spoken = [found.page.locator(f"#{name}").inner_html() for name in drawing.get_attribute("aria-labelledby").split()]
    assert spoken[0].startswith("Waterfall of ltx") and "allocated 4.424 GiB" in spoken[1]


def test_what_is_unknown_or_missing_has_no_bar(show: Open) -> None:
    record = make.exact()
    terms = Terms(weights=0, inputs=None, outputs=0, activations=1 << 20, workspace=None)
    small = replace(record.measurement, terms=terms, peak=Memory(allocated_bytes=1 << 20))
    found = show([replace(record, estimate=None, measurement=small)])
    texts = found.page.locator("#w1 svg text").all_text_contents()
    assert (len(bars(found, "measured")), len(bars(found, "estimated"))) == (2, 0)  # activations and allocated
    assert (texts.count("0 B"), texts.count("unknown")) == (2, 7)
    assert "as measured" in show([make.on_cpu()]).page.locator("#w1 svg text").all_text_contents()
    assert show([make.crash()]).page.locator("#w1 svg").count() == 0


def test_sizes_are_written_as_everywhere_else(show: Open) -> None:
    sizes = [
        0,
        1,
        1023,
        1024,
        1 << 20,
        (1 << 30) - 1,
        1 << 30,
        17 << 26,
        19 << 26,
        -(17 << 26),
        3 << 15,
        150_109_880_320,
    ]
    sizes += [random.Random(1).randrange(1 << 40) for _ in range(300)] + [n << 26 for n in range(200)]
    found = show([make.exact()])
    assert found.page.evaluate("sizes => sizes.map(size)", sizes) == [format_bytes(size) for size in sizes]


@pytest.mark.parametrize(("width", "shown"), [(390, "narrow"), (1280, "wide")])
def test_the_hot_spots_can_be_read_on_a_phone(browser: Any, tmp_path: Path, width: int, shown: str) -> None:
    story = Story().enter("decoder.up")
    first = story.make(3 << 30, reads=())
    story.leave().enter("decoder.out").make(2 << 30, reads=(first,), term="workspace", dtype="byte")
    path = tmp_path / "hot.html"
    path.write_text(render_page(summarize(story.leave().profile())), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    (drawing,) = page.locator("svg.areas:visible").all()
    assert shown in (drawing.get_attribute("class") or "").split()
    texts = {text.text_content(): text.bounding_box() for text in drawing.locator("text").all()}
    assert {"bytes alive", "peak 5.000 GiB", "next 3.000 GiB"} <= set(texts)
    assert min(box["height"] for box in texts.values() if box) >= 9
    assert (
        page.locator("th:visible, td:visible").evaluate_all(
            "all => Math.max(...all.map(c => c.getBoundingClientRect().right))"
        )
        <= width
    )
    page.close()
