"""What reductions borrow: the rules against torch on CUDA.

The sizes are all that torch 2.13.0+cu130 asked its allocator for, in order, in dry runs for each card on 2026-11-26; the
result comes first.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from profiler.machine.cards import assumed_stack, find_gpu
from profiler.trace.trace import Trace

BF16, FP16, FP32, BOOL = torch.bfloat16, torch.float16, torch.float32, torch.bool
Call = Callable[[torch.Tensor], Any]
ALL_CARDS = ("h200", "t4", "a100-40gb", "rtx-4090", "b200", "rtx-5090")


def norm(x: torch.Tensor) -> Any:
    """As `F.normalize(x, dim=1)` of an RMS norm."""
    return torch.linalg.vector_norm(x, 2, 1, True)


# fmt: off
BY_CARD: list[tuple[Call, tuple[int, ...], torch.dtype, dict[str, list[int]]]] = [
    (norm, (1, 1024, 1, 82, 86), BF16, {
        "h200": [14104, 57769984, 224], "t4": [14104, 21663744, 224], "rtx-5090": [14104, 57769984, 224]}),
    (norm, (1, 1024, 1, 44, 76), FP32, {"a100-40gb": [13376, 27394048, 108], "t4": [13376, 20545536, 108]}),
    (lambda x: x.sum(-1), (64, 300_000), BF16, {
        "h200": [128, 2304, 256], "t4": [128, 768, 256], "a100-40gb": [128, 1792, 256], "rtx-4090": [128, 1536, 256],
        "b200": [128, 2560, 256], "rtx-5090": [128, 2048, 256]}),
    (lambda x: x.sum(-2), (8, 20, 6240, 112), BF16, {
        "h200": [35840, 146800640, 560], "t4": [35840, 64225280, 560], "a100-40gb": [35840, 119275520, 560],
        "rtx-4090": [35840, 100925440, 560], "b200": [35840, 155975680, 560], "rtx-5090": [35840, 137625600, 560]}),
    (lambda x: x.mean(), (3, 1080, 1920), FP32, {
        "h200": [4, 2112, 4], "t4": [4, 320, 4], "a100-40gb": [4, 1728, 4], "rtx-4090": [4, 1536, 4],
        "b200": [4, 2368, 4], "rtx-5090": [4, 2040, 4]}),
    (lambda x: x.permute(0, 3, 1, 2).mean((2, 3)), (2, 256, 256, 320), FP16, {
        "h200": [1280, 138608640, 20], "t4": [1280, 20971520, 20], "a100-40gb": [1280, 113377280, 20],
        "rtx-4090": [1280, 100925440, 20], "b200": [1280, 155320320, 20], "rtx-5090": [1280, 133693440, 20]}),
    (lambda x: torch.var_mean(x, (1, 2)), (4, 512, 640), BF16, {
        "h200": [8, 8, 2560, 16], "t4": [8, 8, 1280, 16]}),
    (lambda x: x.max(0), (100_000, 48), FP32, {"h200": [192, 384, 9609216, 8], "t4": [192, 384, 3932160, 8]}),
    (lambda x: x.t().max(), (2048, 1024), BF16, {"h200": [2, 4194304, 512, 4], "t4": [2, 4194304, 160, 4]}),
    (lambda x: x.argmax(), (1 << 20,), BF16, {"h200": [8, 2048, 4], "t4": [8, 1280, 4]}),
    (lambda x: x.any(), (1 << 22,), BOOL, {"h200": [1, 512, 4], "rtx-5090": [1, 510, 4]}),
    (lambda x: x.prod(), (1 << 20,), BF16, {"h200": [2, 512, 4], "t4": [2, 320, 4]}),
]
ON_ALL: list[tuple[Call, tuple[int, ...], torch.dtype, list[int]]] = [
    (norm, (1, 96, 4, 352, 608), BF16, [1712128]),  # outputs enough for every multiprocessor: nothing is shared
    (norm, (1, 512, 17, 480, 832), BF16, [13578240, 27156480]),  # beyond 2 GiB: partial results in fp32
    (lambda x: x.sum(-1), (40, 60_000_000), BF16, [80, 160, *[18320, 40] * 4]),  # beyond 2 GiB: four kernels
    (lambda x: x.sum(), (2, 4096), BOOL, [8, 65536]),  # counted as int64
    (lambda x: x.count_nonzero(), (3, 100_000), FP32, [300000, 8, 2400000, 296, 4]),
    (lambda x: x.logsumexp(-1), (2, 8, 600, 1000), FP32, [38400, 38400, 9600, 38400000, 38400]),
    (lambda x: torch.ops.aten._safe_softmax(x, -1), (2, 8, 64, 4096), BF16, [8388608, 4194304, 1024, 2]),
]
# fmt: on


def asked_for(call: Call, shape: tuple[int, ...], dtype: torch.dtype, gpu: str, version: str = "2.13.0") -> list[int]:
    """The bytes of each block that the call takes; at its end the result alone is left."""
    trace = Trace(assumed_stack(find_gpu(gpu), version))
    x = torch.empty(shape, dtype=dtype, device="meta")
    with torch.no_grad(), trace.during("cold", "activations"):
        trace.track(x)
        result = call(x)
    left = {number for number, block in enumerate(trace.blocks) if block.died is None}
    assert left == {0, *trace.storages_of(result)}
    return [block.bytes for block in trace.blocks[1:]]


@pytest.mark.parametrize(("call", "shape", "dtype", "by_card"), BY_CARD)
def test_a_reduction_borrows_what_it_does_on_the_card(
    call: Call, shape: tuple[int, ...], dtype: torch.dtype, by_card: dict[str, list[int]]
) -> None:
    assert {gpu: asked_for(call, shape, dtype, gpu) for gpu in by_card} == by_card


@pytest.mark.parametrize(("call", "shape", "dtype", "sizes"), ON_ALL)
def test_a_reduction_borrows_the_same_on_each_card(
    call: Call, shape: tuple[int, ...], dtype: torch.dtype, sizes: list[int]
) -> None:
    assert [asked_for(call, shape, dtype, gpu) for gpu in ALL_CARDS] == [sizes] * len(ALL_CARDS)


@pytest.mark.parametrize(("version", "partial"), [("2.7.1", 1024), ("2.9.1", 1024), ("2.11.0", 1024), ("2.12.0", 512)])
def test_older_kernels_keep_a_number_for_whether_any_is_true(version: str, partial: int) -> None:
    """Seen in dry CUDA with these releases, on an H200."""
    assert asked_for(lambda x: x.any(), (1 << 22,), BF16, "h200", version) == [1, partial, 4]
