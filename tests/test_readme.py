"""What the README shows is true: its commands run, its outputs are what they print."""

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import profiler
from profiler.commands.main import NAMES, cli
from profiler.data.units import format_bytes

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONSOLE = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
LATENTMETER = {line for block in CONSOLE for line in block.splitlines() if line.lstrip("$ ").startswith("latentmeter")}

# One concrete call for each line of the synopsis; the rest of the README's commands are run as they stand. Those of a run
# are about one folder, in this order.
EXAMPLES = {
    "latentmeter models [ID]": "models ltx-video-2b",
    "latentmeter cards": "cards --json",
    "latentmeter estimate MODEL": "estimate sd1.5 --stage decode --frames 1 --height 64 --width 64 --batch 2 --dtype bf16 "
    "--tiling --slicing --gpu h200 --vram 96GiB --reserve 1GiB --torch 2.7.1 --cudnn 90701 "
    "--alloc-conf expandable_segments:True --json",
    "latentmeter estimate PIPELINE": "estimate wan2.1-t2v-1.3b --stage sample --offload model --steps 2 --frames 5 "
    "--height 64 --width 64 --gpu rtx-4090 --json",
    "latentmeter fit MODEL": "fit tests/models/tiny-image.yaml --stage decode --frames 1 --height 64 --width 64 "
    "--gpu rtx-4090 --json",
    "latentmeter recordings make MODEL": "recordings make tests/models/tiny-image.yaml --gpu h200 --json",
    "latentmeter recordings list": "recordings list --json",
    "latentmeter measure  MODEL": "measure tests/models/tiny-image.yaml --stage decode --device cpu --json",
    "latentmeter hotspots MODEL": "hotspots tests/models/tiny-image.yaml --stage decode --gpu h200 --no-remedies --json",
    "latentmeter accuracy": "accuracy results/reference/dry-cards/t4 --fail-over 100 --json",
    "latentmeter coverage": "coverage --class AutoencoderTiny --json",
    "latentmeter doctor": "doctor --json",
}
OF_A_RUN = {
    "latentmeter run CONFIG": "run {sweep} --out {out} --budget-minutes 5",
    "latentmeter report DIR": "report {out} --tolerance 1",
    "latentmeter explain DIR": "explain {out} --again --json",
    "latentmeter compare RUN_A": "compare {out} {out} --fail-over 0 --json",
}
SWEEP = """
name: tiny
title: A tiny sweep
device: cpu
warm_calls: 0
cases: [{model: tests/models/tiny-image.yaml, stages: [decode]}]
"""


def run(arguments: list[str]) -> str:
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("command", sorted(c for c in LATENTMETER if "[" not in c and "run quickstart" not in c))
def test_a_command_as_it_stands(command: str) -> None:
    assert run(shlex.split(command.lstrip("$ "))[1:])


def test_every_line_of_the_synopsis_has_an_example() -> None:
    for line in {line for line in LATENTMETER if "[" in line}:
        assert any(line.startswith(known) for known in EXAMPLES | OF_A_RUN), f"no example for: {line}"


def run_example(example: str) -> None:
    printed = run(shlex.split(example))
    if "--json" in example:
        json.loads(printed)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_the_synopsis(example: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("LATENTMETER_CACHE", "on")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run_example(example)


def test_the_synopsis_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    sweep, out = tmp_path / "sweep.yaml", tmp_path / "run"
    sweep.write_text(SWEEP)
    for example in OF_A_RUN.values():
        run_example(example.format(sweep=sweep, out=out))


@pytest.mark.parametrize(("document", "command"), [("README.md", "estimate"), ("docs/accuracy.md", "explain")])
def test_what_is_shown_is_what_is_printed(document: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line by line and in order; `...` stands for lines that are left out."""
    monkeypatch.chdir(ROOT)
    examples = re.findall(rf"\$ latentmeter ({command} .*?)\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    assert examples
    for typed, output in examples:
        printed, lines = timeless(run(shlex.split(typed))), timeless(output)
        if "..." in lines:
            printed = [line for line in printed if line in lines]
        assert printed == [line for line in lines if line != "..."]


def test_the_shown_run_is_the_committed_one() -> None:
    shown = re.search(r"\$ latentmeter run quickstart\n(.*?)```", README, re.DOTALL)
    assert shown is not None
    rows = {line.split()[0]: line for line in shown[1].splitlines()}
    for comparison in profiler.comparisons(ROOT / "results/examples/quickstart-cpu"):
        row = rows[comparison.record.key]
        assert format_bytes(comparison.allocated.estimated) in row
        assert comparison.verdict in row
        assert format_bytes(comparison.allocated.measured) in row or comparison.record.measurement is None


def timeless(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return [re.sub(r"in \d+\.\d+ s", "in some s", line) for line in lines]


def test_the_python_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    scope: dict[str, object] = {}
    exec(example[1], scope)
    assert "Terms(" in capsys.readouterr().out
    assert len(scope["frame"]) == 1  # type: ignore[arg-type]


def test_the_example_of_a_pipeline_of_ones_own_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [example] = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "pipe = " in block]
    exec(example, {})
    printed = capsys.readouterr().out
    assert "later steps {'unet': " in printed
    assert "\nfits HostBytes(" in printed


def test_every_command_of_the_cli_is_in_the_readme() -> None:
    shown = {line.lstrip("$ ").split()[1] for line in LATENTMETER}
    assert set(NAMES) <= shown


@pytest.mark.parametrize("script", re.findall(r"^(?:\./)?(scripts/\w+)", "\n".join(CONSOLE), re.MULTILINE))
def test_scripts_are_there_and_can_be_run(script: str) -> None:
    assert (ROOT / script).stat().st_mode & 0o111
