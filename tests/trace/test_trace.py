"""The trace itself: what it takes for known while it runs ops without data."""

from collections.abc import Callable

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from profiler.machine.cards import assumed_stack, find_gpu
from profiler.trace.trace import Trace


def test_a_models_own_tensors_on_the_host_keep_their_values() -> None:
    """Equal shapes are inferred once; but two tensors with values, as those of a position table, are not one."""
    trace = Trace(assumed_stack(find_gpu("h200")))
    with trace.during("cold", "activations"):
        first, second = torch.arange(4), torch.arange(4) * 10
        sums = [(first + 1).tolist(), (second + 1).tolist()]
    assert sums == [[1, 2, 3, 4], [1, 11, 21, 31]]


def half(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.float16)


@pytest.mark.parametrize(
    "call",
    [
        lambda: F.linear(half(2, 4, 8), torch.empty(16, 8), torch.empty(16)),
        lambda: half(4, 8) @ torch.empty(8, 4),
        lambda: F.conv2d(half(1, 4, 8, 8), half(8, 4, 3, 3), torch.empty(8)),
        lambda: F.group_norm(half(2, 8, 4, 4), 2, torch.empty(8), torch.empty(8)),
        lambda: F.layer_norm(half(2, 8), (8,), torch.empty(8), torch.empty(8)),
        lambda: F.scaled_dot_product_attention(half(1, 2, 16, 64), *[torch.empty(1, 2, 16, 64)] * 2),
    ],
)
def test_mixed_dtypes_that_no_kernel_takes_are_an_error(call: Callable[[], torch.Tensor]) -> None:
    """Each is refused in dry CUDA too (torch 2.13.0). Shape inference takes some on `meta` and more on fake tensors."""
    trace = Trace(assumed_stack(find_gpu("h200")), "cpu")
    with FakeTensorMode(), trace.during("cold", "activations"), pytest.raises(RuntimeError):
        call()
