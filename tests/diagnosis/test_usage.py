"""What the trace notes beside births and deaths."""

import torch
from torch import nn

from profiler.diagnosis.usage import UsageTrace
from tests.diagnosis.handmade import STACK


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
