"""The choreography: which phases there are, in which order, and what is resident in each."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import profiler
from profiler.data.workload import History
from profiler.models.find import find_model
from profiler.stages.phases import Again, Runnable, Watcher, run_phases
from profiler.stages.stage import Stage

IMAGE = "tests/models/tiny-image.yaml"


class Diary(Watcher):
    """A watcher that writes down what it is told."""

    device = torch.device("meta")

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def during(self, phase: str, term: str, module: nn.Module | None = None) -> Iterator[None]:
        self.lines.append(f"{phase}: {term}" + (" in a module" if module is not None else ""))
        yield
        self.lines.append("end")

    def resident(self, values: Any) -> None:
        self.lines.append(f"resident {len(values)}")

    def loaded(self, run: Runnable) -> None:
        self.lines.append("loaded")

    def empty_cache(self) -> None:
        self.lines.append("empty cache")

    def answered(self, output: Any) -> None:
        self.lines.append(f"answered {tuple(output.shape)}")


class Training(Runnable):
    """A call of three steps, as a training step is."""

    module = nn.Linear(2, 2)

    def make_inputs(self, device: torch.device) -> Any:
        return [torch.empty(3, 2, device=device)]

    def steps(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        yield "activations", lambda: None
        yield "gradients", lambda: None
        yield "optimizer", lambda: torch.empty(5)


def test_the_phases_of_a_stage() -> None:
    spec = find_model(IMAGE)
    history = History(sizes=((1, 32, 32),), empty_cache=True)
    stage, diary = Stage(spec.workload("decode", height=64, width=64, history=history), spec), Diary()
    weights = len([*stage.module.parameters(), *stage.module.buffers()])
    assert run_phases(stage, diary, warm_calls=2) == ((1, 3, 64, 64),)
    call = ["activations in a module", "end"]
    assert diary.lines == [
        "model: weights", f"resident {weights}", "end", "loaded",
        f"earlier: {call[0]}", "end", "empty cache",
        "inputs: inputs", "resident 1", "end",
        f"cold: {call[0]}", "end", "answered (1, 3, 64, 64)",
        f"warm: {call[0]}", "end", f"warm: {call[0]}", "end",
    ]  # fmt: skip


def test_a_call_may_have_several_steps() -> None:
    diary = Diary()
    assert run_phases(Training(), diary, warm_calls=1) == ((5,),)
    assert [line for line in diary.lines if line.startswith(("cold", "warm"))] == [
        f"{phase}: {term} in a module"
        for phase in ("cold", "warm")
        for term in ("activations", "gradients", "optimizer")
    ]


def test_a_call_that_has_run_is_run_again_as_it_is() -> None:
    spec = find_model(IMAGE)
    stage, diary = Stage(spec.workload("decode"), spec), Diary()
    run_phases(stage, Diary())
    inputs = stage.inputs
    run_phases(Again(stage, stage.inputs), diary)
    assert diary.lines[0] == "model: weights"
    assert "earlier" not in " ".join(diary.lines)
    assert stage.inputs is inputs


def test_a_case_finds_its_model_and_its_plan_once(
    sweep_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its whole way: plan, estimate, worker, report. The worker is told of its model and looks for none."""
    from profiler.models import find
    from profiler.sweeps import plan

    found: list[str] = []
    for module in (plan, find):
        monkeypatch.setattr(module, "find_model", lambda name: found.append(name) or find_model(name))
    planned: list[Any] = []
    plan_sweep = plan.plan_sweep
    monkeypatch.setattr(plan, "plan_sweep", lambda sweep: planned.append(sweep) or plan_sweep(sweep))
    for name in ("profiler.sweeps.publish.find_model", "profiler.evidence.accuracy.find_model"):
        monkeypatch.setattr(name, lambda name: found.append(name) or find_model(name), raising=False)
    profiler.run(sweep_file({"model": IMAGE, "stages": ["decode", "encode"]}), tmp_path / "run")
    assert found == [IMAGE]
    assert len(planned) == 1
