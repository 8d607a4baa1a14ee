"""Hot spots of a call of the user's own: the same peak as its estimate, and why its bytes are alive."""

from typing import Any

import pytest
import torch
from torch import nn

import profiler
from profiler.data.workload import Placement
from profiler.diagnosis.call import call_hotspots
from profiler.machine.target import target_stack
from tests.pipelines import PIPELINES

STACK = target_stack("rtx-4090", "2.13.0", None)


class Branch(nn.Module):
    """A residual branch of two layers, in bf16."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(64, 1024, dtype=torch.bfloat16), nn.Linear(1024, 64, dtype=torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        return y + self.down(self.up(y).relu())


@pytest.mark.parametrize("function", ["module", "function"])
def test_a_call_has_the_peak_of_its_estimate_and_the_reasons(function: str) -> None:
    net = Branch()
    kept = [*net.parameters()]
    given: dict[str, Any] = {"inputs": [torch.empty(4096, 64, dtype=torch.bfloat16)], "modules": net}
    call = net if function == "module" else lambda x: net(x)
    spot = call_hotspots(call, placement=None, stack=STACK[0], context_bytes=STACK[1], **given)
    found = profiler.estimate_call(call, gpu="rtx-4090", torch="2.13.0", **given)
    assert (spot.allocated, spot.reserved) == (found.peak.allocated_bytes, found.peak.reserved_bytes)
    assert (spot.peak_at, spot.verdict) == (found.peak_at, found.verdict)
    assert all(parameter is its for parameter, its in zip(net.parameters(), kept, strict=True))
    assert spot.workload.dtype == "bf16"
    reasons = {(item.module, item.why) for item in spot.made}
    assert {("up", "read"), ("", "written"), ("", "residual")} <= reasons


def test_a_pipeline_and_a_function_that_calls_it_are_told_by_component() -> None:
    pipe, call = PIPELINES["wan"]()
    placement = Placement(offload="model")
    found = profiler.estimate_call(pipe, inputs=call, placement=placement, gpu="rtx-4090", torch="2.13.0")
    for function, inputs in ((pipe, call), (lambda: pipe(**call), ())):
        spot = call_hotspots(function, inputs, pipe, placement, *STACK)
        assert spot.allocated == found.peak.allocated_bytes
        assert {span.name for span in spot.phases} >= {"text encode", "decode"}
        assert any(name.endswith(" weights") for name in spot.by_module)
