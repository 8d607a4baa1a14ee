"""Text of somebody else stays text, on every medium: a hostile record is fed through each writer."""

import csv
import io
import json
import logging
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import profiler
from profiler.commands.tables import console, print_table
from profiler.commands.verbose import verbose_option
from profiler.comparison.case import compare
from profiler.data.text import for_csv, for_html, for_markdown, visible
from profiler.diagnosis.export import WRITERS
from profiler.evidence.coverage import Trial, summary
from profiler.files.store import RunHeader, RunStore
from profiler.report.markdown import render_coverage
from tests.diagnosis.handmade import Story
from tests.report import records_factory as make

# All that is neither printable nor the end of a line: what a terminal or a reader's eye could be led astray by.
ACTIVE = re.compile(r"[^\n\t\x20-\x7e\xa1-\xac\xae-\u1fff\u2010-\u2027\u2030-\u205e\u2070-\ud7ff\uf900-\U000e0000]")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with a hostile record and an ordinary one, its report written."""
    store = RunStore(tmp_path)
    with store.writing():
        store.begin(RunHeader(title=make.CONTROL, sweep={"name": make.CONTROL}, command=make.CONTROL, created=make.CONTROL,
                              fingerprint="f", version="0"))  # fmt: skip
        for record in (make.hostile(make.CONTROL), make.exact()):
            store.append(record)
    profiler.publish(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["report.html", "report.md", "report.json", "records.csv"])
def test_no_file_of_a_run_holds_a_control_character(folder: Path, name: str) -> None:
    text = (folder / name).read_text(encoding="utf-8")
    assert ACTIVE.findall(text) == []
    assert "x1b" in text or "u001b" in text or name == "report.html"  # there it lies packed


def test_no_cell_of_a_csv_is_a_formula(folder: Path) -> None:
    heads, *rows = csv.reader(io.StringIO((folder / "records.csv").read_text(encoding="utf-8")))
    assert len(rows) == 2 and {len(row) for row in rows} == {len(heads)}
    assert not [cell for row in rows for cell in row if re.match(r"[=+@\t\r]|-\D", cell)]
    assert rows[0][heads.index("model")].startswith("'=cmd|")


@pytest.mark.parametrize("command", ["explain {}", "explain {} =cmd", "compare {} {}", "report {}"])
def test_no_command_writes_a_control_character(folder: Path, latentmeter: Callable[..., Any], command: str) -> None:
    answer = latentmeter(*command.format(folder, folder).split())
    assert answer.out
    assert ACTIVE.findall(answer.out + answer.err) == []


def test_an_error_and_what_v_says_are_text_too(folder: Path, latentmeter: Callable[..., Any]) -> None:
    answer = latentmeter("explain", folder, "no such case")
    assert answer.code == 2 and "=cmd" in answer.err
    assert ACTIVE.findall(answer.err) == []
    answer = latentmeter("-v", "estimate", "tests/models/tiny-image.yaml", "--gpu", "h200", "--torch", "2.13.0\x1b[2J")
    assert ACTIVE.findall(answer.out + answer.err) == []
    assert verbose_option and logging.getLogger("profiler").handlers == []


def test_a_table_and_a_line_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console().print(make.CONTROL, style="bold")
    print_table([make.CONTROL, "b"], [[make.CONTROL, "[red]x[/red]"]])
    out = capsys.readouterr().out
    assert ACTIVE.findall(out) == []
    assert "[red]x[/red]" in out


def test_at_a_prompt_and_in_a_notebook() -> None:
    for shown in (make.hostile(make.CONTROL), make.hostile(make.CONTROL).estimate, compare(make.hostile(make.CONTROL))):
        assert ACTIVE.findall(repr(shown) + shown._repr_html_()) == []
        assert "<b>" not in shown._repr_html_()


@pytest.mark.parametrize("kind", ["csv", "stacks", "chrome"])
def test_an_export(kind: str) -> None:
    story = Story().enter(f"{make.FORMULA};\x1b[2J 7\nx")
    story.make(4096)
    text = WRITERS[kind][1](story.leave().profile()).decode()
    assert ACTIVE.findall(text) == []
    if kind == "stacks":
        (line,) = text.splitlines()
        assert re.fullmatch(r"\S+ 4096", line)
    if kind == "csv":
        assert next(csv.DictReader(io.StringIO(text)))["module"].startswith("'=cmd")
    if kind == "chrome":
        json.loads(text)


def test_the_table_of_coverage() -> None:
    trial = Trial(class_name=make.CONTROL, kind="denoiser", stage=None, status="failed", reason=make.CONTROL)
    text = render_coverage([trial], summary([trial]), "h200")
    assert ACTIVE.findall(text) == []
    assert len(re.findall(r"(?<!\\)\|", text.splitlines()[-1])) == 7


@pytest.mark.parametrize(
    ("raw", "shown"),
    [("a\nb\tc é 四 ✓", "a\nb\tc é 四 ✓"), ("\x1b[31m", r"\x1b[31m"), ("\u202e\ud800\x9b", r"\u202e\ud800\x9b")],
)
def test_what_is_visible_stays_and_the_rest_is_written_out(raw: str, shown: str) -> None:
    assert visible(raw) == shown
    assert for_html(raw) == shown


def test_numbers_are_no_formulas_and_text_is_one_cell_of_markdown() -> None:
    assert [for_csv(value) for value in (-5, -0.5, "-5", "=1", "@a", "a=1")] == [
        "-5",
        "-0.5",
        "'-5",
        "'=1",
        "'@a",
        "a=1",
    ]
    assert for_markdown("a|b\n<i>`\x1b") == r"a\|b &lt;i&gt;\`\\x1b"
    assert asdict(make.hostile(make.CONTROL))["workload"]["model"] == make.CONTROL
