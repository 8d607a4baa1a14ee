"""Cards by whatever a person knows of them: the list, a memory alone, a sibling's plans, one verdict everywhere."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import profiler
from profiler.data.memory import Memory
from profiler.data.units import GIB
from profiler.errors import UserError
from profiler.estimation.worst import worst_of
from profiler.files.load import from_dict
from profiler.machine.cards import find_gpu
from profiler.sweeps.plan import Sweep, plan_sweep

TINY = "tests/models/tiny-video.yaml"
SIZE = ("--height", 64, "--width", 64)


@pytest.fixture(autouse=True)
def without_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTMETER_CACHE", "off")


def test_the_list_has_every_card_with_its_sources(latentmeter: Any) -> None:
    rows = {row["id"]: row for row in json.loads(latentmeter("cards", "--json").out)["cards"]}
    assert len(rows) > 70
    assert rows["rtx-4090"]["plans"] == "own"
    assert rows["rtx-2070-super"]["plans"] == "t4"
    assert rows["rtx-3060-12gb"]["plans"] == "near"
    assert rows["rtx-4070-super"]["sources"]["total_bytes"].startswith("derived: 12 GiB less 294 MiB")
    line = next(line for line in latentmeter("cards").out.splitlines() if line.startswith("rtx-4070-super "))
    assert line.split("  ")[1:] and line.rstrip().endswith("near") and " derived " in line and " 8.9 " in line


def test_the_list_needs_no_torch() -> None:
    code = (
        "from profiler.commands.main import cli; cli(['cards'], standalone_mode=False); import sys; print(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "rtx-4090" in done.stdout and "'torch'" not in done.stdout


def test_a_memory_alone_is_answered_by_the_worst_card_that_has_it(latentmeter: Any) -> None:
    found = json.loads(latentmeter("estimate", TINY, *SIZE, "--vram", "12GB", "--json").out)
    for card in ("rtx-2060-12gb", "rtx-3080-ti", "rtx-4070-super", "rtx-5070"):
        assert card in found["notes"]["stack.card"]
    assert (found["verdict"], found["fits"]) == ("fits", True)
    assert found["capacity_bytes"] == found["stack"]["device_total_bytes"] - int(0.55 * GIB) // 2**20 * 2**20
    assert "the next larger" not in found["notes"]["stack.card"]


@pytest.mark.parametrize(
    ("answers", "worst"),
    [
        ({"rtx-4080-super": ("fits", 9)}, "rtx-4080-super"),
        ({"rtx-4080-super": ("fits", 9), "rtx-5070-ti": ("tight", 8)}, "rtx-5070-ti"),
        ({"rtx-a4000": ("does not fit", 1), "rtx-5070-ti": ("tight", 8)}, "rtx-a4000"),
    ],
)
def test_the_worst_fits_least_then_reserves_most(answers: dict[str, Any], worst: str) -> None:
    """A card that does not take the workload is left out, and said."""
    one = profiler.estimate(TINY, height=64, width=64, gpu="t4")

    def ask(card: str) -> Any:
        if find_gpu(card).capability == (7, 5):
            raise UserError("flash needs architecture 8.0")
        verdict, size = answers.get(card, ("fits", 2))
        return replace(one, verdict=verdict, peak=Memory(reserved_bytes=size))

    name, found = worst_of("13GiB", ask)
    said = found.notes["stack.card"]
    assert name == worst
    assert "(the next larger memory that cards have is 16.000 GiB)" in said
    assert said.endswith(f"needs most: {name}; --gpu names yours; t4 does not take it: flash needs architecture 8.0")
    with pytest.raises(UserError, match="flash needs"):
        worst_of("6GiB", lambda _: ask("t4"))


def test_a_siblings_plans_answer_and_are_named() -> None:
    asked: dict[str, Any] = {"height": 480, "width": 832, "frames": 5, "torch": "2.13.0"}
    own = profiler.estimate("wan2.1-t2v-1.3b", gpu="a10g", **asked)
    found = profiler.estimate("wan2.1-t2v-1.3b", gpu="rtx-3080-ti", **asked)
    assert found.terms.workspace == own.terms.workspace
    assert found.peak == own.peak
    assert "by plans of NVIDIA A10G: NVIDIA GeForce RTX 3080 Ti has the same architecture" in found.notes["stack.plans"]
    assert "stack.plans" not in own.notes


def test_hotspots_give_the_same_verdict(latentmeter: Any) -> None:
    asked = (TINY, *SIZE, "--gpu", "rtx-3060-12gb", "--reserve", "11.075GiB")
    estimated = json.loads(latentmeter("estimate", *asked, "--json").out)
    spots = json.loads(latentmeter("hotspots", *asked, "--json", "--no-remedies").out)
    assert estimated["verdict"] == spots["verdict"] == "does not fit"
    assert estimated["fits"] is spots["fits"] is False
    assert estimated["notes"]["capacity"] == spots["notes"]["capacity"]
    alone = json.loads(latentmeter("hotspots", TINY, *SIZE, "--vram", "12GiB", "--json", "--no-remedies").out)
    assert alone["verdict"] == "fits"
    assert alone["notes"]["stack.card"].startswith("for 12.000 GiB of memory, of ")


def test_memory_shared_with_the_host_is_said() -> None:
    assert "saves nothing" in profiler.estimate(TINY, height=64, width=64, gpu="gb10").notes["stack.memory"]


def test_a_sweep_names_cards_as_the_command_line_does(tmp_path: Path) -> None:
    def cards(**entry: Any) -> list[Any]:
        cases = [{"model": TINY, "stages": ["decode"], **entry}]
        return [case.card for case in plan_sweep(from_dict(Sweep, {"name": "s", "title": "t", "cases": cases})).cases]

    [card] = cards(gpu="NVIDIA GeForce RTX 3060", vram="12GiB", reserve="1GiB")
    assert (card.id, card.reserve_bytes) == ("rtx-3060-12gb-less-1024mib", GIB)
    with pytest.raises(UserError, match="vram and reserve need a gpu"):
        cards(vram="12GiB")
