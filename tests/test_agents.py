"""docs/agents.md is true: each command that it shows runs, and its JSON has every key that the page shows or names."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from profiler.commands.main import cli

PAGE = (Path(__file__).parent.parent / "docs" / "agents.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```console\n\$ latentmeter (.*?)\n```\n\n```json\n(.*?)```", PAGE, re.DOTALL)
FIT = re.findall(
    r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", PAGE.split("## fit")[1].split("\n## ")[0], re.MULTILINE))
)


def missing(shown: Any, real: Any, place: str = "") -> list[str]:
    """Where `real` lacks what is `shown`: keys of a mapping, the form of an item, the kind of a value; null is any."""
    if isinstance(shown, dict) and isinstance(real, dict):
        gone = [f"{place}.{key}" for key in shown if key not in real]
        return gone + [
            line for key in shown if key in real for line in missing(shown[key], real[key], f"{place}.{key}")
        ]
    if isinstance(shown, list) and isinstance(real, list):
        return [
            line for item in shown if real for line in min((missing(item, its, f"{place}[]") for its in real), key=len)
        ]
    is_same = type(shown) is type(real) or None in (shown, real)
    return [] if is_same else [f"{place}: {type(real).__name__}, shown as {type(shown).__name__}"]


def test_the_page_shows_every_command_that_it_recommends() -> None:
    shown = {command.split()[0] for command, _ in SHOWN}
    table = PAGE.split("## Which command")[1].split("\n## ")[0]
    named = {
        name for cell in re.findall(r"\| ([^|]+) \|$", table, re.MULTILINE) for name in re.findall(r"`(\w+)", cell)
    }
    assert named - {"fit"} == shown
    assert len(SHOWN) == 6


@pytest.mark.parametrize(("command", "text"), SHOWN, ids=[command.split(" --")[0] for command, _ in SHOWN])
def test_the_json_has_the_keys_that_are_shown(command: str, text: str, latentmeter: Callable[..., Any]) -> None:
    answer = latentmeter(*shlex.split(command))
    assert answer.code == 0
    assert missing(json.loads(text), json.loads(answer.out)) == []


def test_the_keys_of_fit_that_are_named_are_there(latentmeter: Callable[..., Any]) -> None:
    assert {"verdict", "settings", "peak", "host_bytes", "code", "in_the_way"} <= set(FIT)
    if "fit" not in cli.commands:
        pytest.skip("no command fit yet")
    answer = latentmeter("fit", "sd1.5", "--stage", "decode", "--gpu", "rtx-4090", "--json")
    assert answer.code == 0
    assert set(FIT) <= json.loads(answer.out).keys()


def test_a_mistake_ends_with_2_and_a_line_that_names_the_alternatives(latentmeter: Callable[..., Any]) -> None:
    answer = latentmeter("estimate", "sd1.5", "--gpu", "rtx-4091", "--json")
    assert (answer.code, answer.out) == (2, "")
    assert "did you mean 'rtx-4090'" in answer.err
