"""The trace itself: what it takes for known while it runs ops without data."""

import torch

from profiler.machine.cards import assumed_stack, find_gpu
from profiler.trace.trace import Trace


def test_a_models_own_tensors_on_the_host_keep_their_values() -> None:
    """Equal shapes are inferred once; but two tensors with values, as those of a position table, are not one."""
    trace = Trace(assumed_stack(find_gpu("h200")))
    with trace.during("cold", "activations"):
        first, second = torch.arange(4), torch.arange(4) * 10
        sums = [(first + 1).tolist(), (second + 1).tolist()]
    assert sums == [[1, 2, 3, 4], [1, 11, 21, 31]]
