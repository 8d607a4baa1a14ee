"""Strides of elementwise results, as torch 2.13.0+cu130 gave them in dry CUDA on an H200 (2026-11-26)."""

from collections.abc import Callable

import pytest
import torch

from profiler.machine.cards import assumed_stack, find_gpu
from profiler.trace.trace import Trace

SPLIT, WIDE = ((1, 4, 128, 128), (131072, 16384, 128, 1)), ((1, 512, 6, 40, 40), (9600, 9600, 1600, 40, 1))
TOKENS = ((1, 512, 128, 128), (512, 1, 65536, 512))
FRAME = ((1, 384, 1, 90, 160), (5529600, 14400, 5529600, 160, 1))
CUT, WHOLE = (2457600, 2457600, 204800, 320, 1), (157286400, 1228800, 102400, 320, 1)
Layout = tuple[tuple[int, ...], tuple[int, ...]]


@pytest.mark.parametrize(
    ("op", "layouts", "strides"),
    [
        (torch.exp, [SPLIT], (65536, 16384, 128, 1)),  # contiguous but for what size 1 hides: made anew
        (lambda x: x * 0.5, [SPLIT], (65536, 16384, 128, 1)),
        (torch.nn.functional.silu, [FRAME], (5529600, 14400, 14400, 160, 1)),
        (lambda x: x * 2.0, [FRAME], (5529600, 14400, 5529600, 160, 1)),  # a number is another shape: sorted by strides
        (lambda x: x / 1.0, [TOKENS], (512, 1, 65536, 512)),
        (torch.exp, [TOKENS], (8388608, 1, 65536, 512)),  # channels-last but for what size 1 hides
        (torch.exp, [((2, 1, 3), (3, 9, 1))], (3, 3, 1)),
        (torch.exp, [((2, 1, 3), (1, 9, 2))], (1, 9, 2)),  # dense, neither of the two: kept as it is
        (torch.add, [WIDE, (WIDE[0], (4915200, 9600, 1600, 40, 1))], (4915200, 9600, 1600, 40, 1)),
        (torch.add, [((1, 128, 12, 320, 320), s) for s in (CUT, WHOLE)], (1228800, 1228800, 102400, 320, 1)),
        (torch.add, [((2, 3, 4), (12, 1, 3)), ((3, 1), (1, 1))], (12, 1, 3)),
        (torch.where, [((2, 3), (1, 2)), ((2, 3), (3, 1)), ((2, 3), (3, 1))], (1, 2)),
    ],
)
def test_results_have_the_strides_of_a_device(
    op: Callable[..., torch.Tensor], layouts: list[Layout], strides: tuple[int, ...]
) -> None:
    trace = Trace(assumed_stack(find_gpu("h200")))
    tensors = [torch.empty_strided(shape, stride, device="meta") for shape, stride in layouts]
    if op is torch.where:
        tensors[0] = tensors[0].bool()
    with trace.during("cold", "activations"), torch.inference_mode():
        assert op(*tensors).stride() == strides
