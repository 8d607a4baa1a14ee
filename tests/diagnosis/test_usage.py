"""What the trace notes beside births and deaths."""

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")  # text encoders

from profiler.data.workload import Placement
from profiler.diagnosis.held import HeldTrace
from profiler.diagnosis.usage import UsageTrace
from profiler.estimation.placed import trace_placed
from profiler.stages.generation import Generation
from tests.diagnosis.handmade import STACK
from tests.pipelines import PIPELINES


class Inner(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten()  # a view: reads nothing
        flat.mul_(2)
        return flat + 1


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = x * 3
        return self.inner(made) + self.inner(made)


def test_reads_calls_and_holders() -> None:
    net, trace = Outer(), UsageTrace(STACK)
    x = torch.ones(4, 4, device="meta")
    with trace.during("cold", "activations", net):
        trace.track(x)
        net(x)
    first, made, one, other = (block.number for block in trace.blocks[:4])
    names = {number: [trace.ops[op][1] for op in ops] for number, ops in trace.reads.items()}
    assert names[first] == ["aten.mul.Tensor"]
    assert names[made] == ["aten.mul_.Tensor", "aten.add.Tensor"] * 2
    assert names[one] == names[other] == ["aten.add.Tensor"]
    calls = [(call.path, call.end - call.first, call.parent) for call in trace.calls]
    assert calls == [("", len(trace.ops), -1), ("inner", 3, 0), ("inner", 3, 0)]
    assert trace.calls[trace.freed_in[made]].path == ""  # the variable `made` lives in Outer.forward
    assert trace.call_of[trace.reads[made][0]] == 1


def test_a_call_is_not_taken_for_a_later_one_whose_frame_has_its_address() -> None:
    trace = HeldTrace(STACK)

    def put(x: torch.Tensor, box: list[torch.Tensor]) -> None:
        box[:] = [x + 1]  # the one before it dies here, in another call of this function

    def loop(x: torch.Tensor, box: list[torch.Tensor]) -> None:
        for _ in range(50):
            put(x, box)

    with trace.during("cold", "activations"):
        loop(torch.ones(4, 4, device="cuda"), [])
    assert {code.co_name for code, _ in list(trace.held.values())[:49]} == {"loop"}


@pytest.mark.parametrize("name", ["wan", "flux"])
def test_what_is_noted_of_a_copied_call_is_what_is_noted_of_a_traced_one(name: str) -> None:
    """Layers of a denoiser, two steps, two calls."""
    found = []
    for repeats in (True, False):
        pipe, call = PIPELINES[name]()
        trace = HeldTrace(STACK, repeats=repeats)
        trace_placed(Generation(pipe, pipe, call, Placement(offload="model")), trace, warm_calls=1)
        noted = (trace.ops, trace.reads_of, trace.calls, trace.call_of, trace.kernels, trace.freed_in)
        held = {number: (code.co_name, at) for number, (code, at) in trace.held.items()}
        found.append((trace.events, trace.blocks, *noted, held))
        copies = trace._repeats and [one for calls in trace._repeats._calls.values() for one in calls]
        assert bool(copies) is repeats
    assert found[0] == found[1]
