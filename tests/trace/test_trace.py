"""The trace itself: what it takes for known while it runs ops without data."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_hunyuanvideo15 import HunyuanVideo15AttnBlock
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


@pytest.mark.parametrize(
    ("where", "events"),
    [(2, 0), ((2, slice(3)), 0), ((1, 2), 0), ((None, 1), 0), (..., 0), ("mask", 0), ("rows", 0), ("positions", 2)],
)
def test_a_number_written_into_a_tensor_stays_on_the_host_but_for_positions(where: Any, events: int) -> None:
    """As torch 2.13.0+cu130 does it on an H200's record, dry run of 2026-11-26: births and deaths of `x[where] = 0`."""
    trace = Trace(assumed_stack(find_gpu("h200")))
    with trace.during("cold", "activations"):
        x = torch.zeros(8, 8, dtype=torch.bfloat16, device="meta")
        places = {"mask": x == 0, "rows": x[:, 0] == 0, "positions": torch.tensor([1, 2], device="meta")}
        before = len(trace.events)
        x[places[where] if isinstance(where, str) else where] = 0
        assert len(trace.events) - before == events


def test_a_number_is_written_where_somebody_may_read_it() -> None:
    trace = Trace(assumed_stack(find_gpu("h200")))
    with trace.during("cold", "activations"):
        x, on_host = torch.zeros(6, dtype=torch.int64, device="meta"), torch.zeros(3)
        x[1:3] = 4
        x[x == 0] = 7
        on_host[1] = 2
        assert (x.tolist(), on_host.tolist()) == ([7, 4, 4, 7, 7, 7], [0, 2, 0])


def test_a_mask_built_a_row_at_a_time_is_one_block() -> None:
    """HunyuanVideo 1.5's VAE: a dry run of its decoder has no other event there, whatever the size."""
    trace = Trace(assumed_stack(find_gpu("h200")))
    with trace.during("cold", "activations"):
        mask = HunyuanVideo15AttnBlock.prepare_causal_attention_mask(3, 256, torch.bfloat16, trace.device, batch_size=1)
        assert mask.shape == (1, 768, 768)
        assert [block.bytes for block in trace.blocks] == [768 * 768 * 2]
        assert len(trace.events) == 1
