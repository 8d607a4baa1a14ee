"""The documents are true: their links lead somewhere, and the commands, options, files and names in them exist.

`REWRITE_DOCS=1 python -m pytest tests/test_docs.py` writes anew what is taken from elsewhere: the help of every command
(docs/commands.md) and the summary of the accuracy table (docs/accuracy.md).
"""

import inspect
import os
import re
import textwrap
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import profiler
from profiler.commands.main import NAMES, cli
from profiler.data.workload import DTYPES, STAGES, GenerationOptions, History, MemoryOptions
from profiler.machine.environment import VARIABLES
from profiler.sweeps.plan import Entry, Sweep, find_sweep, plan_sweep
from profiler.trace.rules.kernels import _copies_input
from profiler.trace.rules.normalization import group_norm

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "results").glob("*.md")),
]
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in DOCUMENTS}
COMMANDS, ACCURACY = "docs/commands.md", "docs/accuracy.md"
SYNOPSIS = re.compile(r"latentmeter +(?!-)([a-z]+)([^\n`#]*(?:\n {4,}[^\n`#]*)*)")
COMING: set[str] = set()  # described, and on their way into the code
OUR_FOLDERS = r"(?:profiler|configs|scripts|tests|docs|results|benchmarks)"


def commands(group: click.Group = cli, before: tuple[str, ...] = ()) -> dict[str, click.Command]:
    """Every command by what one types, `recordings make` for one in a group of its own."""
    found = {}
    for name in NAMES if group is cli else group.commands:
        command, typed = group.get_command(click.Context(group), name), (*before, name)
        assert command
        found |= commands(command, typed) if isinstance(command, click.Group) else {" ".join(typed): command}
    return found


def options(command: click.Command) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}


def between(text: str, mark: str) -> str:
    return text.split(f"<!-- {mark} -->")[1].strip()


def must_hold(document: str, mark: str, wanted: str) -> None:
    """The part of `document` between two marks is `wanted`; with REWRITE_DOCS it is made so."""
    if os.environ.get("REWRITE_DOCS"):
        before, _, after = TEXTS[document].split(f"<!-- {mark} -->")
        text = f"<!-- {mark} -->".join([before, f"\n{wanted}\n", after])
        (ROOT / document).write_text(text, encoding="utf-8")
        TEXTS[document] = text
    assert between(TEXTS[document], mark) == wanted, "REWRITE_DOCS=1 python -m pytest tests/test_docs.py writes it anew"


def test_the_environments_variables_are_documented() -> None:
    rows = [f"| `{name}` | {fate}: {why} |" for name, (fate, why) in VARIABLES.items()]
    must_hold("docs/how-it-works.md", "environment", "\n".join(["| variable | in an estimate |", "|---|---|", *rows]))


def test_the_help_of_every_command_is_documented() -> None:
    parts = []
    for name in commands():
        result = CliRunner().invoke(cli, [*name.split(), "--help"], prog_name="latentmeter", terminal_width=110)
        parts.append(f"## {name}\n\n```text\n{result.output.strip()}\n```")
    must_hold(COMMANDS, "help", "\n\n".join(parts))


def test_the_accuracy_shown_is_that_of_the_committed_table() -> None:
    page = (ROOT / "results" / "accuracy" / "planner" / "accuracy.md").read_text(encoding="utf-8")
    must_hold(ACCURACY, "accuracy", between(page, "summary"))


def test_every_field_of_a_sweep_and_every_option_of_run_is_documented() -> None:
    text = TEXTS["docs/sweeps.md"]
    named = set(re.findall(r"`([\w-]+)`", text))
    plain = {field.name for kind in (MemoryOptions, History, GenerationOptions) for field in fields(kind)}
    in_sweep = {field.name for kind in (Sweep, Entry) for field in fields(kind)}
    assert {*in_sweep, *plain, *STAGES, *DTYPES} <= named
    everywhere = set.intersection(*map(options, commands().values()))
    assert options(commands()["run"]) - everywhere - {"config"} <= named
    tables = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    known = {*in_sweep, *plain, *options(commands()["run"])}
    assert {name for cell in tables for name in re.findall(r"`([\w-]+)`", cell)} <= known, "a field that is gone"


def test_the_sweep_that_the_documents_show_can_be_planned(tmp_path: Path) -> None:
    (sweep,) = re.findall(r"```yaml\n(.*?)```", TEXTS["docs/sweeps.md"], re.DOTALL)
    (tmp_path / "sweep.yaml").write_text(sweep)
    assert [case.key for case in plan_sweep(find_sweep(str(tmp_path / "sweep.yaml"))).cases] == [
        "sd1.5/decode/1x512x512/b1/fp16"
    ]


@pytest.mark.parametrize("document", TEXTS)
def test_links_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[document]):
        if target.startswith("http"):
            continue
        file, _, heading = target.partition("#")
        path = (ROOT / document).parent / file if file else ROOT / document
        assert path.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}, target


@pytest.mark.parametrize("document", TEXTS)
def test_commands_and_their_options_exist(document: str) -> None:
    known = commands()
    for word, rest in SYNOPSIS.findall(TEXTS[document]):
        name = next((name for name in known if f"{word}{rest} ".startswith(f"{name} ")), None)
        if name is None and any(f"{word}{rest} ".startswith(f"{coming} ") for coming in COMING):
            continue
        assert name is not None, f"no command: latentmeter {word}{rest}"
        for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", rest):
            assert option in options(known[name]), f"latentmeter {name} has no {option}"


@pytest.mark.parametrize("document", TEXTS)
def test_files_named_are_there(document: str) -> None:
    for path in re.findall(rf"`({OUR_FOLDERS}/[\w./-]+)`", TEXTS[document]):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("document", TEXTS)
def test_public_names_exist(document: str) -> None:
    for name in re.findall(r"\bprofiler\.(\w+)\(", TEXTS[document]):
        assert name in {*profiler.__all__, *COMING}, f"profiler.{name}"


def test_every_option_of_a_command_says_what_it_does() -> None:
    silent = [
        f"{name} {option.opts[0]}"
        for name, command in commands().items()
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert silent == []


@pytest.mark.parametrize("document", [name for name in TEXTS if name.startswith("docs/")])
def test_examples_in_python_run(document: str) -> None:
    for example in re.findall(r"^```python\n(.*?)^```", TEXTS[document], re.MULTILINE | re.DOTALL):
        exec(example, {})


def contributing(first_words: str) -> str:
    """The one block of Python in CONTRIBUTING.md that has `first_words`, without its indentation."""
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", TEXTS["CONTRIBUTING.md"], re.MULTILINE | re.DOTALL)
    [block] = [textwrap.dedent(block) for block in blocks if first_words in block]
    return block


def test_the_rule_that_contributing_shows_is_the_one_that_runs() -> None:
    assert contributing("def group_norm").strip() == inspect.getsource(group_norm).strip()
    shown = textwrap.indent(contributing("take_ordered(x, layout)"), " " * 4)
    assert shown in inspect.getsource(_copies_input)


def test_the_test_that_contributing_shows_passes() -> None:
    names: dict[str, Any] = {}
    exec(contributing("def test_group_norm"), names)
    names["test_group_norm_in_16_bit_borrows_four_buffers"]()


def test_the_limits_that_contributing_names_are_those_of_the_house() -> None:
    house = (ROOT / "tests" / "test_house.py").read_text(encoding="utf-8")
    [limits] = re.findall(r"^MOST_LINES, MOST_LINES_A_FILE, \w+ = ([\d_]+), ([\d_]+),", house, re.MULTILINE)
    lines, a_file = (int(limit) for limit in limits)
    assert f"{lines:,} lines in all (`MOST_LINES`) and each of its files to {a_file}." in TEXTS["CONTRIBUTING.md"]
