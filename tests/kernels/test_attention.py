"""Which attention kernels take a call: what torch 2.13 (cuDNN 9.20) said in dry CUDA on the cards' records, 2026-11-26.

Each kernel alone under `sdpa_kernel`: those listed ran, for the others torch said "No available kernel".
"""

from typing import Any

import pytest

from profiler.data.stack import Stack
from profiler.errors import NoKernelError, UserError
from profiler.kernels.attention import Attention, choose_kernel, default_order, refusal
from profiler.machine.cards import assumed_stack, find_gpu

BF16, FP16, FP32 = "bfloat16", "float16", "float32"
ALL, FUSED = "flash efficient cudnn math", "efficient math"


def stack(gpu: str) -> Stack:
    return assumed_stack(find_gpu(gpu), "2.13.0", None)


def call(
    dtype: str, depth: int = 64, width: int | None = None, heads: int = 2, keys: int = 64, **rest: Any
) -> Attention:
    k = (1, 2, keys, depth)
    return Attention(q=(1, heads, 64, depth), k=k, v=(*k[:3], width or depth), dtype=dtype, **rest)


MASK = {"mask": (1, 1, 64, 64), "mask_is_bool": True}
CALLS = [
    ("t4", call(BF16), "math"),
    ("t4", call(FP16), FUSED),
    ("t4", call(FP16, 100), "math"),
    ("t4", call(FP16, 512), FUSED),
    ("t4", call(FP16, **MASK), FUSED),
    ("t4", call(FP32), FUSED),
    ("t4", call(FP32, 66), FUSED),
    ("t4", call(FP32, heads=4, gqa=True), "math"),
    ("rtx-4090", call(BF16), ALL),
    ("rtx-4090", call(FP16, 100), "flash math"),
    ("rtx-4090", call(BF16, 132), "flash math"),
    ("rtx-4090", call(BF16, 160), "flash efficient math"),
    ("rtx-4090", call(BF16, 264), FUSED),
    ("rtx-4090", call(BF16, **MASK), "efficient cudnn math"),
    ("rtx-4090", call(BF16, mask=(2, 64, 64), mask_is_bool=True), FUSED),
    ("rtx-4090", call(BF16, heads=4, gqa=True), "flash cudnn math"),
    ("rtx-4090", call(BF16, gqa=True), ALL),
    ("rtx-4090", call(BF16, heads=4), "math"),
    ("rtx-4090", call(BF16, keys=1), "flash efficient math"),
    ("rtx-4090", call(BF16, keys=32, causal=True), "efficient cudnn math"),
    ("rtx-4090", call(BF16, width=128), "efficient cudnn math"),
    ("rtx-4090", call(BF16, 192, 128), FUSED),
    ("rtx-4090", call(FP32), FUSED),
    ("rtx-4090", call(FP32, 66), "math"),
    ("rtx-4090", call(BF16, packed=False), "math"),
    ("rtx-4090", Attention(q=(2, 64, 64), k=(2, 64, 64), v=(2, 64, 64), dtype=BF16), "math"),
    ("h200", call(BF16, 256), ALL),
    ("h200", call(BF16, 256, 128), "efficient cudnn math"),
    ("b200", call(BF16, 256), "flash efficient math"),
    ("b200", call(BF16, 192, 128), "efficient cudnn math"),
    ("b200", call(BF16, 256, 128), FUSED),
]


@pytest.mark.parametrize(("gpu", "asked", "able"), CALLS)
def test_the_kernels_that_take_a_call_are_torchs(gpu: str, asked: Attention, able: str) -> None:
    card = stack(gpu)
    assert {kernel for kernel in default_order(card) if refusal(kernel, asked, card) is None} == set(able.split())


@pytest.mark.parametrize(("gpu", "asked", "able"), CALLS)
def test_a_pinned_kernel_runs_or_is_an_error_that_names_those_that_can(gpu: str, asked: Attention, able: str) -> None:
    card = stack(gpu)
    for kernel in default_order(card):
        if kernel in able.split():
            assert choose_kernel(asked, card, (kernel,)) == kernel
            continue
        with pytest.raises(
            NoKernelError, match=rf"No available kernel .*: {kernel} \w+ .* Kernels that can: "
        ) as error:
            choose_kernel(asked, card, (kernel,))
        assert set(str(error.value).rpartition(": ")[2].split(", ")) == set(able.split())


def test_the_error_is_torchs_kind_and_a_users() -> None:
    assert issubclass(NoKernelError, RuntimeError) and issubclass(NoKernelError, UserError)


def test_of_several_kernels_torch_never_comes_to_those_behind_math() -> None:
    """`sdpa_kernel([CUDNN_ATTENTION, MATH])` on an RTX 4090 ran the math path: its order has cuDNN last."""
    assert choose_kernel(call(BF16), stack("rtx-4090")) == "flash"
    assert default_order(stack("rtx-4090")) == ("flash", "efficient", "math", "cudnn")
    assert default_order(stack("h200")) == ("cudnn", "flash", "efficient", "math")


@pytest.mark.parametrize(
    ("kernel", "gpu", "asked", "reason"),
    [
        ("flash-attn", "t4", call(FP16), "needs architecture 8.0, this card has 7.5"),
        ("flash-attn", "rtx-4090", call(FP32), "takes float16 and bfloat16, not float32"),
        ("flash-attn", "rtx-4090", call(BF16, 512), "takes heads up to 256, not 512"),
        ("flash-attn", "rtx-4090", call(BF16), None),
        ("sage", "b200", call(BF16), "has no kernel for architecture 10.0"),
        ("sage", "h200", call(BF16, 256), "takes heads up to 128, not 256"),
        ("sage", "h200", call(BF16), None),
        ("xformers", "t4", call(FP32), None),
    ],
)
def test_packages_say_what_they_refuse(kernel: Any, gpu: str, asked: Attention, reason: str | None) -> None:
    assert refusal(kernel, asked, stack(gpu)) == reason
