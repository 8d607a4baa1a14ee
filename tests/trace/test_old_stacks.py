"""Ops whose kernels changed between releases of torch: what each allocates, beside dry runs of that very release.

The numbers are torch's own, read in dry CUDA from `_record_memory_history` as CONTRIBUTING.md shows: torch 2.7.1+cu126
(cuDNN 9.5.1), 2.9.1+cu128 (9.10.2), 2.11.0+cu130 (9.19.0), 2.12.0+cu130 and 2.13.0+cu130 (9.20.0), 2026-11-26.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from profiler.machine.cards import assumed_stack, find_gpu
from profiler.trace.trace import Trace

CUBLAS, LT, SMALLER = 33_554_432, 1_048_576, 8_519_680


def taken(call: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...], gpu: str, version: str) -> list[int]:
    """Bytes of each block that `call` takes, in order, with an input in bf16 that is there before."""
    trace = Trace(assumed_stack(find_gpu(gpu), version))
    x = torch.empty(shape, dtype=torch.bfloat16, device="meta")
    with torch.inference_mode(), trace.during("cold", "activations"):
        call(x)
    return [block.bytes for block in trace.blocks]


def of(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


GAMMA, BIAS, WIDE, WIDE_FP32 = of(64), of(256), of(512), of(512, dtype=torch.float32)
KERNEL = of(32, 32, 3, 3, 3)
FUSED, FLASH = [65_536, 256], [1_048_576, 32_768, 65_536, 4_194_304, 16, 8]


@pytest.mark.parametrize(
    ("version", "statistics"), [("2.7.1", []), ("2.9.1", []), ("2.11.0", []), ("2.12.0", []), ("2.13.0", [64, 64])]
)
def test_group_norm_keeps_statistics_in_fp32_since_2_13(version: str, statistics: list[int]) -> None:
    found = taken(lambda x: F.group_norm(x, 8, GAMMA, GAMMA), (2, 64, 32, 32), "h200", version)
    assert found == [262_144, 32, 32, *statistics, 512, 512]


@pytest.mark.parametrize(
    ("gpu", "version", "kept"),
    [
        ("h200", "2.9.1", [CUBLAS, LT]),
        ("h200", "2.12.0", [CUBLAS]),
        ("rtx-5090", "2.9.1", [SMALLER, LT]),
        ("rtx-5090", "2.11.0", [SMALLER, LT]),
        ("rtx-5090", "2.12.0", [CUBLAS]),
        ("rtx-4090", "2.9.1", [SMALLER, LT]),
        ("rtx-4090", "2.12.0", [SMALLER]),
    ],
)
def test_what_products_without_and_with_a_bias_keep(gpu: str, version: str, kept: list[int]) -> None:
    found = taken(lambda x: torch.addmm(BIAS, x @ x, x), (256, 256), gpu, version)
    assert sorted(found) == sorted([131_072, 131_072, *kept])


def test_before_2_9_each_linear_layer_takes_its_workspace_anew() -> None:
    trace = Trace(assumed_stack(find_gpu("h200"), "2.7.1"))
    x = of(256, 256)
    with torch.inference_mode(), trace.during("cold", "activations"):
        kept = [torch.addmm(BIAS, x, x) for _ in range(2)]
        sizes = [trace.blocks[max(n, ~n)].bytes * (1 if n >= 0 else -1) for n in trace.events]
    assert len(kept) == 2
    assert sizes == [131_072, LT, CUBLAS, -LT, 131_072, LT, -LT]


@pytest.mark.parametrize("version", ["2.9.1", "2.11.0", "2.12.0"])
def test_rms_norm_is_fused_where_the_dtypes_agree(version: str) -> None:
    assert taken(lambda x: F.rms_norm(x, (512,), WIDE), (64, 512), "h200", version) == FUSED
    assert taken(lambda x: F.rms_norm(x, (512,)), (64, 512), "h200", version) == FUSED
    composite = taken(lambda x: F.rms_norm(x, (512,), WIDE_FP32), (64, 512), "h200", version)
    assert sum(composite) > sum(FUSED) + 131_072


@pytest.mark.parametrize(
    ("gpu", "version", "buffers"),
    [
        ("h200", "2.7.1", FLASH),
        ("h200", "2.9.1", FLASH),
        ("h200", "2.12.0", [8, 8, 1_048_576, 256]),  # cuDNN first
        ("rtx-5090", "2.9.1", FLASH),
        ("rtx-5090", "2.12.0", FLASH),
        ("rtx-4090", "2.12.0", FLASH),
    ],
)
def test_attention_of_each_release(gpu: str, version: str, buffers: list[int]) -> None:
    found = taken(lambda x: F.scaled_dot_product_attention(x, x, x), (1, 8, 1024, 64), gpu, version)
    assert found == buffers


def test_a_clip_is_unfolded_in_2_9() -> None:
    """cuDNN 9.10 is not trusted with it: 32 channels x 27 taps x 4 x 16 x 16 positions x 2 bytes."""
    found = taken(lambda x: F.conv3d(x, KERNEL, padding=1), (1, 32, 4, 16, 16), "h200", "2.9.1")
    assert found[:2] == [65_536, 1_769_472]


def test_the_order_of_the_stack_holds_where_torch_2_6_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch 2.6.0 gives the order with math a second time (seen there, 2026-11-26): it is still torch's own, untouched."""
    monkeypatch.setattr(torch._C, "_get_sdp_priority_order", lambda: [1, 2, 0, 3, 0])
    found = taken(lambda x: F.scaled_dot_product_attention(x, x, x), (1, 8, 1024, 64), "h200", "2.12.0")
    assert found == [8, 8, 1_048_576, 256]
