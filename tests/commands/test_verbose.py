"""`-v`: steps on standard error, the answer alone on standard output; without it, silence."""

import json
import logging

import click
import pytest
from click.testing import CliRunner, Result

from profiler.commands.main import NAMES, cli

ESTIMATE = ["estimate", "tests/models/tiny-image.yaml", "--gpu", "h200", "--json"]


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTMETER_CACHE", "off")


@pytest.mark.parametrize("arguments", [["-v", *ESTIMATE], [*ESTIMATE, "-v"], [*ESTIMATE, "-vv"]], ids=" ".join)
def test_steps_go_to_standard_error_and_json_stays_pure(arguments: list[str]) -> None:
    result = run(*arguments)
    assert json.loads(result.stdout)["peak"]["allocated_bytes"] > 0
    for step in ("model tests/models/tiny-image.yaml", "asked: ", "traced ", "cuDNN's plans by source"):
        assert step in result.stderr


def test_each_line_is_said_once() -> None:
    lines = [line for line in run("-v", *ESTIMATE, "-v").stderr.splitlines() if "estimator: traced" in line]
    assert len(lines) == 1


def test_without_it_nothing_is_said_even_after_it() -> None:
    run(*ESTIMATE, "-v")
    assert run(*ESTIMATE).stderr == ""
    assert logging.getLogger("profiler").handlers == []


def test_a_measurement_says_its_worker_and_its_phases() -> None:
    result = run("measure", "tests/models/tiny-image.yaml", "--device", "cpu", "--warm-calls", "0", "--json", "-v")
    assert json.loads(result.stdout)["status"] == "ok"
    assert "worker ended with exit code 0 after: model, inputs, cold, attribution" in result.stderr


def test_an_answer_says_where_it_came_from(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("LATENTMETER_CACHE", "on")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "answer has to be traced" in run(*ESTIMATE, "-v").stderr
    assert "answer kept from the same estimate" in run(*ESTIMATE, "-v").stderr


def test_every_command_has_the_option() -> None:
    commands = [cli.get_command(click.Context(cli), name) for name in NAMES]
    assert [c.name for c in commands if c is None or "verbose" not in {p.name for p in c.params}] == []  # type: ignore[union-attr]
