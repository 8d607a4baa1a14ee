"""scripts/unseen: what it draws can be run, and is nowhere in the repository; a claim is held against every case."""

from contextlib import nullcontext
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from profiler.errors import UserError
from profiler.models.find import find_model
from profiler.sweeps.plan import find_sweep, plan_sweep
from tests.scripts import load_script


@pytest.fixture(scope="module")
def unseen() -> Any:
    return load_script("unseen")


def test_a_seed_draws_cases_that_the_sweep_plans_and_nothing_holds(unseen: Any, tmp_path: Path) -> None:
    drawn = unseen.draw(Random(5), 6)
    keys = {workload.key for workloads in drawn.values() for workload in workloads}
    assert len(keys) == 6
    assert not keys & unseen.known_keys()
    assert drawn == unseen.draw(Random(5), 6)
    unseen.write_sweeps(drawn, tmp_path, 5)
    cases = [case for card in drawn for case in plan_sweep(find_sweep(str(tmp_path / card / "sweep.yaml"))).cases]
    assert {case.key for case in cases} == keys
    assert all(case.problem is None for case in cases)


@pytest.mark.parametrize(("seed", "number", "taken"), [(5, 2, True), (5, None, True), (6, 2, False), (5, 3, False)])
def test_a_folder_of_other_cases_than_were_asked_for_is_not_taken(
    unseen: Any, tmp_path: Path, seed: int, number: int | None, taken: bool
) -> None:
    case = find_model("sd1.5").workload("decode")
    unseen.write_sweeps({"h200": [case], "t4": [case]}, tmp_path, 5)
    with nullcontext() if taken else pytest.raises(UserError, match=r"holds 2 cases \(unseen-5\), not those asked for"):
        unseen.check_drawn(tmp_path, seed, number)


def test_what_does_not_fit_the_card_by_weights_alone_is_not_drawn(unseen: Any) -> None:
    spec, small = find_model("sd1.5"), SimpleNamespace(total_bytes=1 << 20)
    assert all(unseen.drawn(Random(seed), spec, small) is None for seed in range(4))


def row(known: int, estimated: int | None, **other: Any) -> dict[str, Any]:
    sizes = {f"{who} {name}": size for who, size in (("known", known), ("latentmeter", estimated))
             for name in ("allocated", "reserved")}  # fmt: skip
    about = {"kind": "dry", "gpu": "card", "model": "m", "stage": "decode", "dtype": "bf16", "options": ""}
    facts = {"reason": "", "status": "ok", "fits": True, "half_digit": 0, "safe_reserved": 1 << 40}
    return about | facts | sizes | {"key": str(other.get("key", known))} | other


@pytest.mark.parametrize(
    ("rows", "planned", "closed"),
    [
        ([row(1000, 1000), row(2000, 2000)], True, True),
        ([row(1000, 1000), row(2000, 2010)], False, False),
        ([*[row(size, size) for size in range(1000, 1019)], row(2000, 2010)], False, True),
        ([*[row(size, size) for size in range(1000, 1019)], row(2000, 2090)], False, False),
        ([row(1000, 1000), row(2000, 2000, safe_reserved=1999)], False, True),
        ([row(1000, 1000), row(2000, 2000, fits=False)], False, False),
        ([row(1000, 1000), row(2000, 2000, reason="failed", status="failed")], False, False),
        ([row(1000, 1000), row(2000, 2000, reason="the card was full")], True, True),
        ([row(1000, 1000), row(2000, None, reason="no estimate")], False, False),
        ([row(1000, 1000), row(1, None, reason="no estimate", status="invalid")], True, True),
        ([row(1000, 1000), row(2000, 2000, reason="no measurement", status="invalid")], False, False),
    ],
)
def test_claims(unseen: Any, rows: list[dict[str, Any]], planned: bool, closed: bool) -> None:
    frame = pd.DataFrame(rows)
    assert unseen.judged("planned", frame) is planned
    assert unseen.judged("closed-form", frame) is closed


def test_a_missed_case_is_named_with_its_figures(unseen: Any, capsys: pytest.CaptureFixture[str]) -> None:
    full = row(3000, 3003, key="full", reason="the card was full")
    unseen.judged("planned", pd.DataFrame([row(1000, 1000, key="good"), row(2000, 2010, key="bad"), full]))
    out = capsys.readouterr().out
    assert "0 not compared, 1 outside the claim" in out
    assert "card: full: true [3000, 3000], estimated [3003, 3003] the card was full" in out
    assert "card: bad: true [2000, 2000], estimated [2010, 2010]" in out
    assert "good" not in out
