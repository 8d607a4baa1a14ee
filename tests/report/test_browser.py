"""The page in a real browser: its script runs under its own policy, sorts, and nothing is written to the console."""

import re
import shutil
import subprocess

import pytest
import records_factory as make

from profiler.compare import compare_all
from profiler.report.about import RunInfo
from profiler.report.html import render_html

CHROMIUM = shutil.which("chromium")
FLAGS = [
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ),
    *("--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--dump-dom"),
]
# What a reader would do and see, written where --dump-dom shows it.
CLICK = """<script>
const button = (name) => [...document.querySelectorAll("#cases button")].find((found) => found.textContent === name);
const models = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent).join(" ");
const errors = heads.findIndex((head) => head.textContent === "error");
button("model").click();
document.body.dataset.models = models();
button("error").click();
document.body.dataset.up = [...table.tBodies[0].rows].map((row) => row.cells[errors].innerText).join(" ");
button("error").click();
document.body.dataset.down = [...table.tBodies[0].rows].map((row) => row.cells[errors].innerText).join(" ");
document.body.dataset.open = document.querySelectorAll("details.case[open]").length;
dispatchEvent(new Event("beforeprint"));
document.body.dataset.printed = document.querySelectorAll("details.case[open]").length;
dispatchEvent(new Event("afterprint"));
document.body.dataset.after = document.querySelectorAll("details.case[open]").length;
location.hash = "#w5";
</script></body>"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium found: apt-get install chromium"),
]


def browse(html, folder):
    """The page's DOM after its scripts ran, and what it wrote to the console."""
    page = folder / "report.html"
    page.write_text(html, encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)


@pytest.fixture(scope="module")
def page():
    return render_html(compare_all(make.sample()), RunInfo(title="sample"))


def test_the_script_runs_under_the_pages_own_policy(page, tmp_path):
    dom, console = browse(page, tmp_path)
    assert dom.count('<button type="button">') == 16
    assert 'title="no context size known for this card"' in dom
    assert console == []


def test_hostile_records_do_not_run(tmp_path):
    page = render_html(compare_all([make.hostile()]), RunInfo(title=make.HOSTILE))
    dom, console = browse(page, tmp_path)
    assert dom.count('<button type="button">') == 16
    assert dom.count("<script") == 1
    assert console == []


def test_the_table_sorts_and_printing_opens_every_case(page, tmp_path):
    unguarded = re.sub(r"<meta http-equiv=[^>]*>", "", page).replace("</body>", CLICK)
    dom, console = browse(unguarded, tmp_path)
    found = dict(re.findall(r'data-(\w+)="([^"]*)"', re.search(r"<body[^>]*>", dom)[0]))
    assert console == []
    assert found["models"].split() == sorted(record.workload.model for record in make.sample())
    known, unknown = found["up"].split(" unknown", 1)
    assert known == "-0.15 % 0 % 0 % 0 % +1.89 %"
    assert unknown.count("unknown") == 3  # four in all, last in either direction
    assert found["down"].startswith("+1.89 % 0 % 0 % 0 % -0.15 % unknown")
    assert (found["open"], found["printed"], found["after"]) == ("3", "9", "3")
    assert re.search(r'id="w5"[^>]* open', dom)
