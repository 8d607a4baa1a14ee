"""The Markdown: the same facts as the page, and nothing in a value that Markdown or GitHub would act on."""

import re
from dataclasses import replace

import pytest

from profiler.comparison.case import compare_all
from profiler.machine.target import target_stack
from profiler.report.cells import Footnotes, table_row
from profiler.report.contents import RunInfo, collect_contents
from profiler.report.markdown import code, escape, render_markdown
from profiler.report.words import write_answer
from tests.report import records_factory as make

ABOUT = RunInfo(
    title="sample", command="latentmeter run sample.yaml", created="2026-11-20T12:00:00+00:00", version="0.1.0"
)


def render(*records):
    return render_markdown(collect_contents(compare_all(records), ABOUT))


def columns(line):
    """Number of cells of a table line: pipes that are not escaped."""
    return len(re.findall(r"(?<!\\)\|", line)) - 1


def test_the_whole_report_looks_as_it_should(snapshot):
    assert render(*make.sample()) == snapshot


def test_the_answer_stands_at_the_top():
    lines = render(*make.sample()).splitlines()
    assert lines[4] == f"**{write_answer(compare_all(make.sample()))}**"


@pytest.mark.parametrize("records", [make.sample(), [make.hostile()]], ids=["sample", "hostile"])
def test_every_line_of_a_table_has_the_cells_of_its_head(records):
    head = 0
    for line in render(*records).splitlines():
        if not line.startswith("|"):
            head = 0
            continue
        head = head or columns(line)
        assert columns(line) == head


def test_hostile_text_stays_text():
    text = render(make.hostile())
    assert "<script" not in text
    assert "<img" not in text
    assert "@team" not in text
    assert not re.search(r"(?<!\\)`c", text)
    assert not re.search(r"(?<![\\\d])\*d", text)
    assert "\n# e" not in text


@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("a\n\nb", "a b"),
        ("`x`", r"\`x\`"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("[x](y)", r"\[x\](y)"),
        ("@team", "@<!-- -->team"),
        (r"\|", r"\\\|"),
        ("$x$ ~y~ #1", r"\$x\$ \~y\~ &#35;1"),
    ],
)
def test_what_markdown_would_act_on_is_escaped(raw, escaped):
    assert escape(raw) == escaped


def test_code_type_is_for_plain_text_only():
    assert code("wan2.1-t2v-14b/decode") == "`wan2.1-t2v-14b/decode`"
    assert code("a`b") == r"a\`b"


def test_a_run_without_cases_is_still_a_report():
    text = render()
    assert "Nothing was run" in text
    assert re.findall("^## .*", text, re.MULTILINE) == ["## Conditions"]


def test_a_case_that_does_not_fit_has_the_command_that_finds_what_does() -> None:
    """It stands under the verdict, for a card that is known by its name and its memory, and for that alone."""
    stack, _ = target_stack("rtx-4090", "2.13.0", None)
    fits = make.estimate_only()
    assert fits.estimate is not None
    full = replace(fits, estimate=replace(fits.estimate, stack=stack, fits=False, verdict="does not fit"))
    other = replace(full, estimate=replace(full.estimate, stack=replace(stack, device_total_bytes=6 << 30)))
    found = [table_row(one, Footnotes())[8] for one in compare_all([fits, full, other])]
    assert [cell.text for cell in found] == ["fits", "does not fit", "does not fit"]
    size = full.workload
    asked = f"latentmeter fit {size.model} --stage {size.stage} --frames {size.frames} --height {size.height}"
    asked += f" --width {size.width} --dtype {size.dtype} --gpu rtx-4090 --torch 2.13.0"
    assert [cell.detail for cell in found] == ["", asked, ""]
