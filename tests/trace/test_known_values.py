"""Values of tensors without data: what a call reads from its inputs is read as a run with data would."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from profiler.data.stack import Stack
from profiler.errors import ModelError
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.models.find import find_model
from profiler.stages.stage import Stage
from profiler.trace.observer import Observer
from profiler.trace.trace import Trace

CPU_STACK = Stack(device="cpu", torch="2.13.0")
TINY = Path(__file__).parent.parent / "models"


def traced(call: Callable[[str], Any], stack: Stack = CPU_STACK) -> tuple[Any, Trace]:
    trace = Trace(stack)
    with torch.inference_mode(), trace.during("cold", "activations"):
        return call("meta"), trace


def traced_on_fake_tensors(call: Callable[[str], Any]) -> tuple[Any, Trace]:
    trace = Trace(CPU_STACK, device_type="cpu")
    with torch.inference_mode(), FakeTensorMode(allow_non_fake_inputs=True), trace.during("cold", "activations"):
        return call("cpu"), trace


READS: dict[str, Callable[[str], Any]] = {
    "a mask's length": lambda d: torch.ones(2, 7, dtype=torch.int64, device=d).sum(dim=1).tolist(),
    "a position": lambda d: int(torch.arange(12, device=d).view(3, 4)[1:, ::2].amax()),
    "written through a view": lambda d: write_through_a_view(torch.zeros(6, dtype=torch.int64, device=d)),
    "a bool": lambda d: bool((torch.full((3,), 2.0, device=d) > 1).all()),
    "from the host and back": lambda d: torch.arange(5).to(d).cumsum(0).cpu().tolist(),
    "a count per value": lambda d: torch.arange(6, device=d).remainder(3).bincount().tolist(),
    "like an unknown one": lambda d: (
        torch.zeros_like(torch.randn(9, 9, device=d) @ torch.ones(9, 9, device=d)).sum().item()
    ),
    "a random number is not zero": lambda d: bool(torch.randn(4, device=d).eq(0).any()),
    "a literal": lambda d: torch.tensor([[3, 4]], device=d).sum().item(),
    "nothing left": lambda d: torch.ones(0, 4, device=d)[torch.ones(0, dtype=torch.bool, device=d)].shape,
    "selected by a mask": lambda d: torch.ones(6, 4, device=d)[torch.arange(6, device=d) > 3].shape,
    "masked select": lambda d: torch.ones(6, 4, device=d).masked_select(torch.arange(4, device=d) > 2).shape,
    "selected by a mask on the host": lambda _: torch.arange(6)[torch.arange(6) > 3].tolist(),
    "masked select on the host": lambda _: torch.arange(6).masked_select(torch.arange(6) > 3).tolist(),
    "repeated": lambda d: torch.arange(3, device=d).repeat_interleave(torch.arange(3, device=d)).tolist(),
    "distinct": lambda d: torch.ones(5, device=d).unique().shape,
    "equal": lambda d: torch.equal(torch.ones(3, device=d), torch.zeros(3, device=d)),
}


def write_through_a_view(x: torch.Tensor) -> Any:
    x.view(2, 3)[1].add_(torch.arange(3, device=x.device))
    x[x > 1] = 7
    return x.tolist()


@pytest.mark.parametrize("kind", ["meta", "fake"])
@pytest.mark.parametrize("name", READS)
def test_reads_what_a_run_with_data_reads(name: str, kind: str) -> None:
    found, trace = traced(READS[name]) if kind == "meta" else traced_on_fake_tensors(READS[name])
    assert found == READS[name]("cpu")
    assert trace.values.masks == []


def test_written_with_what_is_unknown_is_unknown() -> None:
    def call(device: str) -> Any:
        known = torch.zeros(4, dtype=torch.bool, device=device)
        known.copy_(torch.empty(4, 2**21, dtype=torch.bool, device=device).any(dim=1))
        return known.any().item()

    found, trace = traced(call)
    assert found is True
    assert trace.values.masks == ["aten._local_scalar_dense.default"]


def test_an_unknown_mask_is_valid_throughout_and_its_inverse_is_not() -> None:
    def call(device: str) -> Any:
        mask = torch.empty(2**23, device=device).view(8, 2**20).mean(dim=1) > 0
        return torch.ones(8, device=device)[mask].shape, torch.ones(8, device=device)[~mask].shape

    found, trace = traced(call)
    assert found == ((8,), (0,))
    assert len(trace.values.masks) == 1


def test_unknown_scores_choose_evenly() -> None:
    def call(device: str) -> Any:
        scores = torch.empty(64, 2**16, device=device) @ torch.empty(2**16, 4, device=device)
        return scores.topk(2, dim=-1)[1].view(-1).bincount().tolist(), scores.topk(3, dim=0)[1].shape

    found, trace = traced(call)
    assert found == ([32, 32, 32, 32], (3, 4))
    assert trace.values.choices == ["aten.topk.default"] * 2


def test_an_unknown_number_ends_the_trace() -> None:
    with pytest.raises(ModelError, match=r"_local_scalar_dense.*weights"):
        traced(lambda d: torch.empty(2**23, device=d).sum().item())


def test_on_cuda_a_mask_becomes_indices_on_the_device() -> None:
    """As torch 2.13's allocator saw it for a bool mask of 1000: count, sum, indices, cub's buffer; then the result."""
    stack = assumed_stack(find_gpu("h200"), None, None)
    found, trace = traced(
        lambda d: torch.ones(1000, 4, device=d)[torch.ones(1000, dtype=torch.bool, device=d)].shape, stack
    )
    sizes = [trace.blocks[max(n, ~n)].bytes * (1 if n >= 0 else -1) for n in trace.events]
    assert found == (1000, 4)
    assert sizes[2:-3] == [4, 1, -1, 8000, 1023, -1023, -4, 16000, -8000]


@pytest.mark.parametrize("batch", [1, 2])
def test_a_model_that_reads_its_masks_allocates_as_with_data(batch: int) -> None:
    def run(observer: Observer, device: torch.device) -> list[tuple[int, bool]]:
        spec = find_model(str(TINY / "tiny-masked.yaml"))
        stage = Stage(spec.workload("denoise", batch=batch), spec)
        stage.load(device)
        with observer.during("inputs", "inputs"):
            stage.make_inputs(device)
        with observer.during("cold", "activations", stage.module):
            stage()
        return [(observer.blocks[max(n, ~n)].bytes, n >= 0) for n in observer.events]

    assert run(Trace(CPU_STACK), torch.device("meta")) == run(Observer("cpu"), torch.device("cpu"))


def test_a_digest_is_no_work_of_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for each small buffer of a module, before each of its calls."""
    trace, followed = Trace(CPU_STACK), list[Any]()
    with torch.inference_mode(), trace.during("cold", "activations"):
        known = torch.arange(6, device="meta").view(2, 3).t()
        usual = Observer.__torch_dispatch__
        monkeypatch.setattr(Observer, "__torch_dispatch__", lambda *a, **k: followed.append(a[1]) or usual(*a, **k))
        digest = trace.values.digest(known)
        assert not followed
        assert digest == trace.values.digest(torch.tensor([[0, 3], [1, 4], [2, 5]]).to("meta"))
    assert followed
