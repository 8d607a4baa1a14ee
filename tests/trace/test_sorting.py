"""Sorts, running sums, the largest of a row, and a loss: births and deaths as torch 2.13.0+cu130 made them in dry CUDA.

Dry runs of 2026-11-26. A birth is its bytes, a death is minus the birth's number, counted from 1; the result comes first.
"""

from typing import Any

import pytest
import torch

import profiler
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.trace.trace import Trace

BF16, FP32, INT32, INT64 = torch.bfloat16, torch.float32, torch.int32, torch.int64


def events(
    op: Any,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    gpu: str,
    stride: tuple[int, ...] | None = None,
    version: str = "2.13.0",
) -> list[int]:
    trace = Trace(assumed_stack(find_gpu(gpu), version))
    x = torch.empty_strided(shape, stride or torch.empty(shape, device="meta").stride(), dtype=dtype, device="meta")
    with trace.during("cold", "activations"), torch.inference_mode():
        result = op(x)
        happened = trace.events[:]
    assert result is not None
    return [trace.blocks[n].bytes if n >= 0 else -1 - ~n for n in happened]


def mse(reduction: str) -> Any:
    return lambda x: torch.nn.functional.mse_loss(x, x, reduction=reduction)


# fmt: off
CASES: list[tuple[Any, tuple[int, ...], torch.dtype, str, list[int], tuple[int, ...] | None]] = [
    (lambda x: x.sort(-1), (3, 2000), BF16, "h200", [12000, 48000, 16000, -3], None),
    (lambda x: x.sort(1), (3, 500, 8), FP32, "t4", [48000, 96000, 4000, -3], None),
    (lambda x: x.sort(0), (1_000_000,), FP32, "h200", [4000000, 8000000, 8000000, 12200191, -4, -3], None),
    (lambda x: x.sort(0), (1_000_000,), FP32, "t4", [4000000, 8000000, 8000000, 12373247, -4, -3], None),
    (lambda x: x.sort(0), (1_000_000,), FP32, "a100", [4000000, 8000000, 8000000, 12342527, -4, -3], None),
    (lambda x: x.sort(0), (4_000_000,), INT64, "b200", [32000000, 32000000, 32000000, 64906751, -4, -3], None),
    (lambda x: x.sort(0), (1_000_000,), BF16, "rtx-5090", [2000000, 8000000, 8000000, 10187007, -4, -3], None),
    (lambda x: x.sort(1), (9, 50_000), FP32, "h200",
     [1800000, 3600000, 3600000, 3600000, 1800000, 5495039, -6, -5, 83455, -7, -4, -3], None),
    (lambda x: x.sort(1), (300, 5000), FP32, "h200", [6000000, 12000000, 12000000, 18000383, -4, -3], None),
    (lambda x: x.cumsum(0), (1_000_000,), BF16, "t4", [2000000, 3327, -2], None),
    (lambda x: x.cumsum(0), (10_000_000,), FP32, "h200", [40000000, 42495, -2], None),
    (lambda x: x.cumsum(1), (3, 2000), INT32, "h200", [48000, 48000, -2], None),
    (lambda x: x.cumsum(1), (4, 1000, 8), FP32, "t4", [128000, 128000, -2], (1, 4, 4000)),
    (lambda x: x.topk(8, 1), (4, 1000, 8), FP32, "h200", [1024, 2048, 128000, -3], (1, 4, 4000)),
    (lambda x: x.topk(10), (300, 5000), FP32, "h200", [
        12000, 24000, 1200, 2400, 2400, 460800, 307200, 3600, 3600, 1279, -10, 1279, -11, -9, -8, -7, -6, -5, -4, -3], None),
    (mse("none"), (1_000_000,), FP32, "rtx-4090", [4000000], None),
    (mse("mean"), (1_000_000,), BF16, "rtx-4090", [2000000, 2000000, 492, 4, -4, -3, -2], None),
]
# fmt: on


@pytest.mark.parametrize(("op", "shape", "dtype", "gpu", "expected", "stride"), CASES)
def test_an_op_borrows_what_it_does_on_the_card(
    op: Any, shape: tuple[int, ...], dtype: torch.dtype, gpu: str, expected: list[int], stride: tuple[int, ...] | None
) -> None:
    found = events(op, shape, dtype, gpu, stride)
    assert found[: len(expected)] == expected


def test_torch_2_9_1_borrows_as_its_own_dry_run_did() -> None:
    assert events(lambda x: x.cumsum(0), (250_000,), FP32, "t4", version="2.9.1") == [1000000, 1791, -2]
    found = events(lambda x: x.topk(5), (20_000,), BF16, "t4", version="2.9.1")
    assert found[:12] == [10, 40, 2, 4, 8, 8, 10240, 80, 80, 1279, -10, 1279]


@pytest.mark.parametrize(
    ("op", "shape", "dtype", "gpu", "is_said"),
    [
        (torch.sort, (100_000,), BF16, "a100", True),
        (torch.sort, (100_000,), BF16, "h200", False),
        (torch.linalg.qr, (64, 20), FP32, "h200", True),
        (torch.fft.fftn, (4, 64, 64), FP32, "h200", True),
        (torch.linalg.vector_norm, (4, 64, 64), FP32, "h200", False),
    ],
)
def test_what_is_not_known_of_a_library_is_said(
    op: Any, shape: tuple[int, ...], dtype: torch.dtype, gpu: str, is_said: bool
) -> None:
    x = torch.empty(shape, dtype=dtype)
    found = profiler.estimate_call(lambda x: op(x), inputs=[x], modules=torch.nn.Identity(), gpu=gpu, torch="2.13.0")
    assert ("scratch" in found.notes) == is_said
