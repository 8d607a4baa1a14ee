"""The page in Chromium, driven by Playwright: it renders, sorts, filters, prints, and asks no network for anything.

The browser is the system's (Debian package chromium); Playwright's own download is not used.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from profiler.comparison.case import compare_all
from profiler.data.records import Record
from profiler.report.contents import RunInfo
from profiler.report.html import render_html
from tests.report import records_factory as make

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[dev]'")
CHROMIUM = shutil.which("chromium")
COLUMNS = 16

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
        heads = self.page.locator("#cases thead tr:last-child th").all_inner_texts()
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
        path.write_text(render_html(compare_all(records), RunInfo(title=title)), encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        found = Opened(context.new_page())
        found.page.on("console", lambda message: found.console.append(message.text))
        found.page.on("pageerror", lambda error: found.console.append(str(error)))
        found.page.on("dialog", lambda dialog: (found.console.append(dialog.message), dialog.dismiss()))
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.goto(path.as_uri())
        assert found.requests[:1] == [path.as_uri()]
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


def test_hostile_records_do_not_run(show: Open) -> None:
    found = show([make.hostile()], title=make.HOSTILE)
    found.page.locator("#filter").fill("<img")
    assert found.page.locator("h1").inner_text().startswith("<script>alert(1)</script>")
    assert found.page.locator("script").count() == 1
    assert found.page.locator("img").count() == 0
    assert quiet(found)


def test_every_column_sorts_both_ways_and_unknown_stays_last(show: Open) -> None:
    found = show(make.sample())
    assert found.page.locator("#cases thead button").count() == COLUMNS
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


def test_data_of_a_chart_is_a_click_away(show: Open) -> None:
    found = show(make.sample())
    data = found.page.locator("#chart details")
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


def test_it_reads_without_its_script(show: Open) -> None:
    found = show(make.sample(), java_script_enabled=False)
    assert len(found.page.locator("#cases tbody tr").all()) == len(make.sample())
    assert found.page.locator("#filter").count() == 0
