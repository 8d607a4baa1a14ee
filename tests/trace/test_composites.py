"""Ops that ATen makes of others on a card: what they take and give back, read off dry runs of torch 2.13.0 for an H200."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from profiler import estimate_call
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.trace.placed import PlacedTrace

CARD, FP16, BOOL = "cuda", torch.float16, torch.bool
PRODUCT = [134217728, 33554432, -9, -8]  # the first two stay: the second is cuBLAS's
X4, X3, FEW = (2, 64, 48, 40), (2, 1000, 256), (500,)


def events(op: Callable[..., Any], *inputs: torch.Tensor, card: str = "h200") -> list[int]:
    """Bytes taken, in order, and minus the number of what is given back, counted from 1 within the op."""
    trace = PlacedTrace(assumed_stack(find_gpu(card), "2.13.0"))
    with trace.during("cold", "activations"), torch.inference_mode():
        given = [torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=CARD) for x in inputs]
        for x in given:
            trace.values.forget(x.untyped_storage()._cdata)
        first, begin = len(trace.blocks), len(trace.events)
        result = op(*given)
        happened = trace.events[begin:]
    assert result is not None
    return [trace.blocks[n].bytes if n >= 0 else first - 1 - ~n for n in happened]


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype)


def normalized(x: torch.Tensor, mean: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return functional.batch_norm(x, mean, mean, weight, weight)


@pytest.mark.parametrize(
    ("op", "inputs", "wanted"),
    [
        (torch.zeros_like, [empty()], [4]),
        (lambda x: torch.argmax(x, 0), [empty()], [8]),
        (lambda x: functional.dropout(x, 0.1, training=True), [empty(*X4, dtype=FP16)], [245760, 491520, -1]),
        (lambda x: functional.dropout(x, 0.1, training=False), [empty(*X4)], []),
        (normalized, [empty(*X4, dtype=FP16), empty(64), empty(64)], [491520]),
        (normalized, [empty(*X4, dtype=FP16), *[empty(64, dtype=FP16)] * 2], [491520, 256, 256, -2, -3]),
        (normalized, [empty(*X4).transpose(2, 3), empty(64), empty(64)], [983040, 983040, -1]),
        (lambda x: functional.softmax(x, -1, dtype=torch.float32), [empty(2, 100, 256, dtype=FP16)], [204800]),
        (
            lambda x: functional.softmax(x.mT, -1, dtype=torch.float32),
            [empty(2, 100, 256, dtype=FP16)],
            [204800, 102400, -2],
        ),
        (
            lambda x: functional.softmax(x, -1, dtype=torch.float32),
            [empty(2, 100, 256, dtype=torch.bfloat16)],
            [204800, 204800, -1],
        ),
        (lambda x: functional.one_hot(x, 1000), [empty(*FEW, dtype=torch.int64)], [4000000]),
        (lambda x: torch.roll(x, (1, 2, 3), (1, 2, 3)), [empty(*X4)], [983040, 983040, 983040, -2, -1]),
        (lambda x: torch.roll(x.mT, 1), [empty(*X4)], [983040, 983040, -1]),
        (
            torch.cdist,
            [empty(4096, 3), empty(8192, 3)],
            [49152, 16384, -1, 16384, 98304, 32768, -4, 32768, 49152, 81920, -3, -2, -7, 163840, -5, -6, *PRODUCT],
        ),
        (torch.cdist, [empty(20, 3), empty(20, 3)], [1600]),
        (torch.median, [empty(*X3)], [2048000, 4096000, 4096000, 6251007, -4, -3, -2, 1, 4, -5, -1]),
        (lambda x: torch.isin(x, x[:5]), [empty(*FEW, dtype=torch.int64)], [500, 2500, 500, -3, -2]),
        (lambda x: functional.unfold(x, 3, padding=1), [empty(*X4)], [983040, 8847360, -1]),
        (lambda x: functional.fold(x, (48, 40), 3, padding=1), [empty(2, 576, 1920)], [8847360]),
        (functional.logsigmoid, [empty(*X3)], [2048000]),
        (torch.abs, [empty(2, 100, 256, dtype=torch.complex64)], [204800, 409600, -2]),
        (torch.angle, [empty(2, 100, 256, dtype=torch.complex64)], [409600, 204800, -1]),
        (
            lambda x, m, s: x.masked_scatter(m.unsqueeze(-1).expand_as(x), s),
            [empty(*X3), empty(2, 1000, dtype=BOOL), empty(*X3)],
            [2048000, 4096000, 512000, 10239, -4, -3, -2],
        ),
        (
            lambda x, m, s: x.masked_scatter_(m, s),
            [empty(*X3), empty(*X3, dtype=BOOL), empty(*X3)],
            [4096000, 10239, -2, -1],
        ),
        (
            lambda v, g: torch._weight_norm_interface(v, g, 0)[0],
            [empty(64, 256, 3, dtype=FP16), empty(64, 1, 1, dtype=FP16)],
            [98304, 256, -2],
        ),
        (torch.mv, [empty(64, 64), empty(64)], [256, 33554432]),
        (normalized, [empty(32, 64), empty(64), empty(64)], [8192, 256, 256, -2, -3]),
        (lambda x: functional.adaptive_avg_pool2d(x.mT, 7), [empty(*X4)], [983040, 25088, -1]),
        (lambda x: functional.max_pool2d(x.mT, 2), [empty(*X4)], [245760, 491520, 983040, -3, -2]),
        (lambda x: functional.interpolate(x.mT, scale_factor=2.0), [empty(2, 256, 100)], [409600, 204800, -2]),
        (
            lambda x: functional.interpolate(x.mT, scale_factor=0.5, mode="bilinear", antialias=True),
            [empty(*X4)],
            [245760, 983040, -2],
        ),
    ],
)
def test_events_are_those_of_a_dry_run(op: Callable[..., Any], inputs: list[torch.Tensor], wanted: list[int]) -> None:
    assert events(op, *inputs) == wanted


def test_what_the_host_has_no_kernel_for_stays_unknown() -> None:
    """A small input whose content is known is followed on the host, which pools no bfloat16 in three dimensions."""
    net = torch.nn.LocalResponseNorm(5)
    found = estimate_call(net, inputs=[torch.zeros(2, 32, 20, 20, dtype=torch.bfloat16)], gpu="h200")
    assert found.peak.allocated_bytes == 204_800


@pytest.mark.parametrize(
    ("card", "counted", "selected"),
    [
        ("h200", 21503, 1791),
        ("t4", 3583, 7167),
        ("rtx-4090", 15615, 7167),
        ("a100", 17663, 2559),
        ("rtx-5090", 20735, 2047),
    ],
)
def test_what_a_long_mask_takes_follows_from_the_card(card: str, counted: int, selected: int) -> None:
    def found(elements: int) -> list[int]:
        return events(torch.nonzero, empty(elements, dtype=BOOL), card=card)

    assert found(512_000) == [4, counted, -2, 4_096_000, selected, -4, -1]
    assert found(4096) == [4, 1, -2, 32768, 1023, -4, -1]
