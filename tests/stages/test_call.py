"""`estimate_call`: any call over real modules answers as a stage does, and leaves the modules as they were."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import profiler
from profiler.data.records import CallEstimate
from profiler.errors import ModelError, NoKernelError, UserError
from profiler.models.find import find_model
from profiler.stages.stage import Stage

ROOT = Path(__file__).parents[2]
IMAGE = "tests/models/tiny-image.yaml"
BIG = (8, 4096, 64)


class Tied(nn.Module):
    """An embedding whose weight is also that of the head, and a branch on a number of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(1000, 64)
        self.middle = nn.Linear(64, 64)
        self.head = nn.Linear(64, 1000, bias=False)
        self.head.weight = self.words.weight
        self.register_buffer("scale", torch.ones(3))

    def forward(self, ids: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        for _ in range(int(times.item())):
            x = self.middle(x)
        return self.head(x)


def asked(function: Any, **options: Any) -> CallEstimate:
    return profiler.estimate_call(function, gpu="h200", **options)


@pytest.mark.parametrize("stage", ["decode", "denoise"])
def test_a_stage_run_by_hand_is_the_stage(stage: Any) -> None:
    spec = find_model(IMAGE)
    workload = spec.workload(stage)
    ready = Stage(workload, spec)
    ready.load(torch.device("meta"))
    inputs = ready.make_inputs(torch.device("meta"))
    module: Any = ready.module
    function = module if stage == "denoise" else module.decode
    found, whole = asked(function, modules=module, inputs=inputs), profiler.estimate(IMAGE, stage, gpu="h200")
    same = ("baseline", "peak", "terms", "peak_at", "largest", "warm", "safe_reserved_bytes", "fits", "output_shapes")
    assert [getattr(found, name) for name in same] == [getattr(whole, name) for name in same]


def test_tied_weights_count_once_and_come_back() -> None:
    model = Tied()
    before = [*model.parameters(), *model.buffers()]
    found = asked(model, inputs=[torch.zeros(4, 512, dtype=torch.long), torch.tensor(2)])
    assert found.terms.weights == (1000 * 64 + 64 * 64) * 4 + 512 + 512  # bias and buffer: a block each
    assert found.output_shapes == ((4, 512, 1000),)
    assert all(a is b for a, b in zip(before, [*model.parameters(), *model.buffers()], strict=True))
    assert model.head.weight is model.words.weight
    assert "a call, estimated for NVIDIA H200" in found.headline


def test_a_module_in_two_places_counts_once() -> None:
    """As the embedding of a T5 encoder, which stands in the model and in its stack."""
    shared = nn.Linear(64, 64)
    twice = nn.ModuleDict({"first": nn.Sequential(shared), "second": nn.Sequential(shared)})
    once = asked(shared, inputs=[torch.empty(BIG)])
    found = asked(lambda x: twice["first"](x), modules=twice, inputs=[torch.empty(BIG)])
    assert (found.terms.weights, found.events) == (once.terms.weights, once.events)


def test_small_numbers_of_the_inputs_decide() -> None:
    once, thrice = (
        asked(Tied(), inputs={"ids": torch.zeros(BIG[:2], dtype=torch.long), "times": torch.tensor(n)}) for n in (1, 3)
    )
    assert thrice.events > once.events


def test_several_modules_have_names_and_a_function_may_be_anything() -> None:
    first, second = nn.Linear(64, 256), nn.Linear(256, 4096)
    named = asked(lambda x: second(first(x)), inputs=[torch.empty(BIG)], modules={"small": first, "large": second})
    assert named.peak_at.module == "large"
    numbered = asked(lambda x: second(first(x)), inputs=[torch.empty(BIG)], modules=[first, second])
    assert (numbered.peak_at.module, numbered.peak) == ("1", named.peak)


def test_a_training_step_is_refused() -> None:
    layers = nn.Linear(64, 64)
    with pytest.raises(
        ModelError, match=r"traced without data: RuntimeError: element 0 of tensors does not require grad"
    ):
        asked(lambda x: layers(x).sum().backward(), modules=layers, inputs=[torch.empty(BIG)])


def test_mistakes() -> None:
    with pytest.raises(UserError, match="give the modules whose weights the call needs"):
        asked(lambda: None)
    with pytest.raises(UserError, match=r"did you mean .*'h200'"):
        profiler.estimate_call(nn.Linear(1, 1), gpu="h201")
    model = nn.Linear(8, 8)
    weight = model.weight
    with pytest.raises(ModelError, match=r"Linear: cannot be traced without data"):
        asked(model, inputs=[torch.empty(3, 9)])
    assert model.weight is weight


def attend(kernels: Any, fallback: bool = False) -> Any:
    """A call of a user's own that pins kernels as torch's documentation does."""

    def call(q: torch.Tensor) -> torch.Tensor:
        try:
            with sdpa_kernel(kernels):
                return torch.nn.functional.scaled_dot_product_attention(q, q, q)
        except RuntimeError:
            if not fallback:
                raise
            return torch.nn.functional.scaled_dot_product_attention(q, q, q)

    return call


def test_sdpa_kernel_pins_in_a_call_of_ones_own() -> None:
    flash, cudnn, math = SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH
    q = torch.empty(1, 2, 64, 64, dtype=torch.bfloat16)
    given: Any = {"modules": nn.Identity(), "inputs": [q]}
    assert asked(attend(flash), **given).routes == {"attention flash": 1}
    assert asked(attend([math, flash]), **given).routes == {"attention flash": 1}
    assert profiler.estimate_call(attend([cudnn, math]), gpu="rtx-4090", **given).routes == {"attention math": 1}
    with pytest.raises(NoKernelError, match=r"flash needs architecture 8\.0.*Kernels that can: math"):
        profiler.estimate_call(attend(flash), gpu="t4", **given)
    assert profiler.estimate_call(attend(flash, fallback=True), gpu="t4", **given).routes == {"attention math": 1}


def test_the_first_estimate_of_a_process_is_that_of_later_ones() -> None:
    """torch imports its compiler at the first linear layer, and a cycle of that import's frames would keep the tensors."""
    code = """
import torch, profiler
net = torch.nn.Sequential(torch.nn.Linear(64, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 64))
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net
    def forward(self, x):
        return net[2](net[1](net[0](x)))
for _ in range(2):
    print(profiler.estimate_call(Net(), inputs=[torch.empty(4096, 64)], gpu="rtx-4090", torch="2.13.0").peak)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    first, second = done.stdout.splitlines()
    assert first == second
