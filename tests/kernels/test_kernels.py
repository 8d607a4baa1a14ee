"""Which kernel runs and what it borrows: the rules against what the real libraries answered.

Workspaces of convolutions are cuDNN 9.20's own plans for NVIDIA's property records of the cards, asked without a device
on 2026-11-20 with the maintained front-end (nvidia-cudnn-frontend 1.32). No figure here is a measured peak.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch

from profiler.data.stack import Stack
from profiler.kernels.attention import Attention, buffers, choose_kernel
from profiler.kernels.convolution import Convolution, route, workspace_bytes
from profiler.kernels.gemm import cublas_workspace_bytes, lt_workspace_bytes, runs_on_lt
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.trace.rules.kernels import attention_output

BF16, FP16, FP32 = "bfloat16", "float16", "float32"
MIB = 1 << 20


def stack(gpu: str, torch_version: str = "2.13.0", cudnn: int | None = None) -> Stack:
    return assumed_stack(find_gpu(gpu), torch_version, cudnn)


def conv(x: tuple[int, ...], out: int, kernel: int, dtype: str = BF16, stride: int = 1, **rest: Any) -> Convolution:
    rank = len(x) - 2
    padding = kernel // 2 if stride == 1 else 0
    geometry = {"padding": (padding,) * rank, "stride": (stride,) * rank, "dilation": (1,) * rank}
    y = (x[0], out, *((n + 2 * padding - kernel) // stride + 1 for n in x[2:]))
    values = geometry | {"groups": 1, "channels_last": False, "transposed": False} | rest
    return Convolution(x=x, weight=(out, x[1] // values["groups"], *[kernel] * rank), y=y, dtype=dtype, **values)


@pytest.mark.parametrize(
    ("gpu", "call", "planned"),
    [
        ("rtx-4090", conv((1, 128, 512, 512), 128, 3), 134_512_656),
        ("rtx-4090", conv((1, 128, 512, 512), 256, 3), 201_916_432),
        ("rtx-4090", conv((1, 256, 512, 512), 128, 1), 0),
        ("rtx-4090", conv((1, 512, 64, 64), 512, 3), 13_107_216),
        ("rtx-4090", conv((2, 320, 64, 64), 320, 3), 12_328_976),
        ("rtx-4090", conv((1, 512, 64, 64), 8, 3), 4_333_584),
        ("rtx-4090", conv((1, 128, 512, 512), 3, 3), 71_321_616),
        ("rtx-4090", conv((1, 128, 513, 513), 128, 3, stride=2), 84_443_408),
        ("h200", conv((1, 128, 1024, 1024), 128, 3), 537_165_971),
        ("h200", conv((1, 256, 1024, 1024), 128, 1), 0),
        ("h200", conv((1, 128, 512, 512), 256, 3, FP32), 403_832_979),
        ("h200", conv((1, 128, 1024, 1024), 128, 3, FP32), 1_074_331_795),
        ("h200", conv((1, 256, 512, 512), 128, 1, FP32), 0),
        ("a100", conv((1, 128, 512, 512), 128, 3, FP32), 134_807_568),
        ("a100", conv((1, 256, 512, 512), 128, 3, FP32), 269_615_120),
        ("rtx-4090", conv((1, 256, 512, 512), 128, 1, FP32), 0),
        ("h200", replace(conv((1, 256, 19, 722, 1282), 256, 3), y=(1, 256, 17, 720, 1280)), 17_029_421_440),
        ("h200", conv((1, 3, 512, 512), 128, 3), 0),
        ("a100", conv((1, 4, 64, 64), 512, 3), 0),
        ("h200", conv((1, 512, 256, 256), 512, 3, channels_last=True), 131),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_workspace_is_what_cudnn_plans(gpu: str, call: Convolution, planned: int) -> None:
    """Within 2 MiB or 1 %: plans differ from the closed form by padding and a header that depends on the engine."""
    assert abs(workspace_bytes(call, stack(gpu)) - planned) <= max(2 << 20, planned // 100)


@pytest.mark.parametrize(
    ("gpu", "dtype", "x", "kind", "planned"),
    [
        (
            "t4",
            BF16,
            (2, 64, 32, 32),
            "im2col",
            64 * 9 * 32 * 32 * 2,
        ),  # read off torch 2.13 in dry CUDA, a sample at a time
        ("t4", BF16, (2, 64, 4, 16, 16), "vol2col", 64 * 27 * 4 * 16 * 16 * 2),
        ("t4", FP16, (1, 64, 32, 32), "cudnn", 233_488),
        ("t4", FP32, (1, 64, 32, 32), "cudnn", 0),  # no TF32 before Ampere: nothing is staged
        ("rtx-3090", BF16, (1, 64, 32, 32), "cudnn", 233_488),
    ],
)
def test_before_ampere_there_is_neither_bf16_in_cudnn_nor_tf32(
    gpu: str, dtype: str, x: tuple[int, ...], kind: str, planned: int
) -> None:
    call = conv(x, 32, 3, dtype)
    assert route(call, stack(gpu)) == kind
    assert workspace_bytes(call, stack(gpu)) == planned


def test_im2col_needs_no_columns_for_a_kernel_of_one() -> None:
    one = conv((1, 64, 32, 32), 32, 1)
    assert workspace_bytes(one, stack("t4")) == 0
    strided = replace(one, y=(1, 32, 16, 16), stride=(2, 2))  # 1 x 1 taps, but not of every pixel
    assert workspace_bytes(strided, stack("t4")) == 64 * 16 * 16 * 2
    assert workspace_bytes(conv((1, 64, 4, 16, 16), 32, 1), stack("t4")) == 64 * 4 * 16 * 16 * 2


def test_depthwise_runs_atens_own_kernel_unless_channels_last() -> None:
    x = (1, 64, 32, 32)
    assert route(conv(x, 64, 3, groups=64), stack("h200")) == "depthwise"
    assert workspace_bytes(conv(x, 64, 3, groups=64), stack("h200")) == 0
    assert route(conv(x, 64, 3, groups=64, channels_last=True), stack("h200")) == "cudnn"


@pytest.mark.parametrize(
    ("version", "cudnn", "kind"),
    [
        ("2.8.0", 91002, "cudnn"),
        ("2.9.0", 91002, "vol2col"),
        ("2.9.0", 91600, "vol2col"),
        ("2.9.1", 91002, "vol2col"),
        ("2.9.1", 91500, "cudnn"),
        ("2.11.0", 91900, "cudnn"),
    ],
)
def test_the_conv3d_regression_of_torch_2_9(version: str, cudnn: int, kind: str) -> None:
    call = conv((1, 96, 3, 34, 34), 96, 3)
    assert route(call, stack("rtx-4090", version, cudnn)) == kind
    assert route(conv((1, 96, 3, 34, 34), 96, 3, FP32), stack("rtx-4090", version, cudnn)) == "cudnn"
    assert route(conv((1, 96, 34, 34), 96, 3), stack("rtx-4090", version, cudnn)) == "cudnn"


def test_vol2col_buffers_are_those_that_users_saw_fail() -> None:
    """pytorch issue 177406: 5.06 GiB for Qwen-Image at 1024x1024; issue 136479: 108 GiB for a 256-cubed volume."""
    old = stack("rtx-4090", "2.9.0", 91002)
    assert workspace_bytes(conv((1, 96, 1, 1024, 1024), 96, 3), old) == 96 * 27 * 1024 * 1024 * 2
    assert workspace_bytes(conv((1, 128, 256, 256, 256), 128, 3), old) == 108 << 30


def attention(depth: int, dtype: str = BF16, length: int = 64, **rest: Any) -> Attention:
    q = (1, 2, length, depth)
    return Attention(q=q, k=q, v=q, dtype=dtype, **rest)


def mask_of(length: int, dtype: str = "bool") -> dict[str, Any]:
    return {"mask": (1, 1, length, length), "mask_is_bool": dtype == "bool"}


@pytest.mark.parametrize(
    ("gpu", "version", "call", "kernel"),
    [
        ("h200", "2.13.0", attention(128), "cudnn"),
        ("h200", "2.13.0", attention(128, **mask_of(64)), "cudnn"),
        ("h200", "2.13.0", attention(256), "cudnn"),
        ("b200", "2.13.0", attention(128), "cudnn"),
        ("b200", "2.13.0", attention(256), "flash"),  # cuDNN takes more than 128 on Hopper alone
        ("h200", "2.13.0", attention(512), "efficient"),
        ("h200", "2.13.0", attention(512, packed=False), "math"),  # Cosmos's VAE: channels are not the last in memory
        ("h200", "2.13.0", Attention(q=(1, 64, 512), k=(1, 64, 512), v=(1, 64, 512), dtype=BF16), "math"),
        ("h200", "2.13.0", attention(128, FP32), "efficient"),
        ("h200", "2.13.0", attention(100), "flash"),
        ("h200", "2.10.0", attention(128), "flash"),
        ("rtx-4090", "2.13.0", attention(128), "flash"),
        ("rtx-4090", "2.13.0", attention(128, **mask_of(64)), "efficient"),
        ("rtx-4090", "2.13.0", attention(384), "efficient"),
        ("a100", "2.13.0", attention(514, FP32), "math"),
        ("t4", "2.13.0", attention(128), "math"),
        ("t4", "2.13.0", attention(128, FP16), "efficient"),
    ],
)
def test_the_kernel_that_cuda_picks(gpu: str, version: str, call: Attention, kernel: str) -> None:
    assert choose_kernel(call, stack(gpu, version)) == kernel


@pytest.mark.parametrize(
    ("gpu", "version", "size"),
    [
        ("h200", "2.13.0", 32 * MIB),
        ("rtx-pro-6000", "2.13.0", 32 * MIB),  # these two by torch 2.13 in dry CUDA
        ("b200", "2.13.0", 32 * MIB),
        ("h100", "2.7.0", 32 * MIB),
        ("t4", "2.13.0", 8_519_680),
        ("rtx-5090", "2.11.0", 8_519_680),
        ("rtx-4090", "2.13.0", 8_519_680),
    ],
)
def test_cublas_workspace_by_architecture(gpu: str, version: str, size: int) -> None:
    assert cublas_workspace_bytes(stack(gpu, version)) == size


def test_scratch_of_each_kernel() -> None:
    assert buffers(attention(128), "cudnn", stack("h200"))[1] == (256,)
    assert buffers(attention(128), "cudnn", stack("rtx-4090"))[1] == ()
    assert buffers(attention(128), "cudnn", stack("b200"))[1] == ()  # 30 calls on its record, cuDNN 9.20, 2026-11-26
    assert buffers(attention(128), "flash", stack("h200"))[1][0] == 2 * 64 * 4
    assert buffers(attention(512), "efficient", stack("h200"))[1] == (64 * 2 * 512 * 4,)
    assert buffers(attention(128), "efficient", stack("h200"))[1] == ()
    assert buffers(attention(512, FP32), "efficient", stack("h200"))[1] == ()


@pytest.mark.parametrize(
    ("q", "keys", "expected"),  # read off torch 2.13's allocator in dry CUDA, on the RTX 3090's record
    [
        ((1, 12, 128, 128), 512, (6144, 24_576, 3_145_728, 16, 8)),
        ((1, 12, 128, 128), 128, (6144, 16, 8)),
        ((1, 8, 1024, 40), 77, (32_768, 16, 8)),
        ((1, 8, 256, 80), 4096, (8192, 40_960, 3_932_160, 16, 8)),
        ((1, 2, 64, 64), 2048, (512, 4096, 262_144, 16, 8)),
        ((2, 5, 512, 96), 8192, (20_480, 40_960, 3_932_160, 16, 8)),
        ((1, 1, 100, 160), 1000, (400, 6400, 1_228_800, 16, 8)),
        ((1, 3, 64, 256), 3000, (768, 36_096, 9_240_576, 16, 8)),
        ((1, 24, 4096, 128), 4608, (393_216, 16, 8)),
    ],
)
def test_flash_attention_cuts_the_keys_where_queries_are_few(
    q: tuple[int, ...], keys: int, expected: tuple[int, ...]
) -> None:
    key = (*q[:2], keys, q[3])
    assert buffers(Attention(q=q, k=key, v=key, dtype=BF16), "flash", stack("rtx-3090"))[1] == expected


def test_a_bool_mask_is_converted_and_unaligned_rows_are_padded() -> None:
    """Sizes seen on torch 2.11: a 4601 x 4601 bool mask costs 42,338,402 and 42,402,816 B. Rows of 8 are aligned."""
    assert buffers(attention(512, **mask_of(4601)), "efficient", stack("h200"))[0] == (42_338_402, 0, 42_402_816)
    assert buffers(attention(128, **mask_of(4601)), "cudnn", stack("h200"))[0] == (42_338_402, 0, 8, 8)
    assert buffers(attention(512, **mask_of(1000)), "efficient", stack("h200"))[0] == (0, 2_000_000, 0)
    assert buffers(attention(512, **mask_of(64, BF16)), "efficient", stack("h200"))[0] == (0, 0, 0)


def test_output_keeps_the_querys_order_where_the_kernel_does() -> None:
    flat = torch.empty(1, 64, 2, 32, device="meta").transpose(1, 2)
    plain = torch.empty(1, 2, 64, 32, device="meta")
    for query in (flat, plain):
        assert attention_output(query, query, "fused").stride() == query.stride()
        assert attention_output(query, query, "efficient").stride() == flat.stride()
    assert attention_output(plain, plain, "cudnn").shape == plain.shape


def with_settings(gpu: str, release: str = "2.13.0", **settings: str) -> Stack:
    return replace(stack(gpu, release), settings=settings)


@pytest.mark.parametrize(
    ("settings", "cublas", "own"),
    [
        ({}, 8_519_680, None),
        ({"CUBLAS_WORKSPACE_CONFIG": ":16:8"}, 131_072, None),
        ({"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}, 33_554_432, None),
        ({"CUBLAS_WORKSPACE_CONFIG": "foo"}, 8_519_680, None),
        ({"CUBLAS_WORKSPACE_CONFIG": ":0:0"}, 0, None),
        ({"TORCH_CUBLASLT_UNIFIED_WORKSPACE": "0"}, 8_519_680, MIB),
        ({"TORCH_CUBLASLT_UNIFIED_WORKSPACE": "foo"}, 8_519_680, None),
        ({"TORCH_CUBLASLT_UNIFIED_WORKSPACE": "0", "CUBLASLT_WORKSPACE_SIZE": "4096"}, 8_519_680, 4 * MIB),
        ({"CUBLASLT_WORKSPACE_SIZE": "4096"}, 8_519_680, None),
    ],
)
def test_the_environment_sets_the_workspace_of_matrix_products(
    settings: dict[str, str], cublas: int, own: int | None
) -> None:
    """Allocations of two linear layers, without and with a bias, in dry CUDA: torch 2.13.0+cu130, an RTX 4090's record."""
    asked = with_settings("rtx-4090", **settings)
    assert (cublas_workspace_bytes(asked), lt_workspace_bytes(asked)) == (cublas, own)


def test_the_environment_says_which_library_multiplies() -> None:
    """Seen in the same way: with a workspace of its own cuBLASLt takes it for a bias, or for all, or for none."""
    assert [runs_on_lt(with_settings("rtx-4090"), bias) for bias in (False, True)] == [False, True]
    disabled = with_settings("rtx-4090", DISABLE_ADDMM_CUDA_LT="1")
    assert [runs_on_lt(disabled, bias) for bias in (False, True)] == [False, False]
    assert runs_on_lt(with_settings("rtx-4090", TORCH_BLAS_PREFER_CUBLASLT="1"), with_bias=False)


@pytest.mark.parametrize(("value", "kernel"), [("1", "flash"), ("0", "cudnn"), ("", "cudnn")])
def test_cudnn_attention_comes_last_where_the_environment_says_so(value: str, kernel: str) -> None:
    """torch._fused_sdp_choice in dry CUDA, an H200's record: 1 (flash) for "1", else 3 (cuDNN)."""
    call = Attention(q=(1, 8, 256, 64), k=(1, 8, 256, 64), v=(1, 8, 256, 64), dtype=BF16)
    assert choose_kernel(call, with_settings("h200", TORCH_CUDNN_SDPA_DEPRIORITIZED=value)) == kernel


def test_nvidias_switch_takes_tf32_from_convolutions() -> None:
    """In dry CUDA this one borrows 4,341,776 bytes on an H200, and with NVIDIA_TF32_OVERRIDE=0 none."""
    call = conv((1, 64, 128, 128), 64, 3, FP32)
    assert workspace_bytes(call, with_settings("h200", NVIDIA_TF32_OVERRIDE="1")) > 4_000_000
    assert workspace_bytes(call, with_settings("h200", NVIDIA_TF32_OVERRIDE="0")) == 0


def test_vol2col_writes_out_every_tap() -> None:
    """Wan 2.1's decode of 33x480x832 in bf16 on torch 2.9.1, its last convolution over 96 channels: 7.71 GiB."""
    call = replace(conv((1, 96, 6, 482, 834), 96, 3), y=(1, 96, 4, 480, 832), padding=(0, 0, 0))
    older = stack("rtx-4090", "2.9.1")
    assert route(call, older) == "vol2col"
    assert workspace_bytes(call, older) == 96 * 27 * 4 * 480 * 832 * 2 == 8_281_128_960
    assert route(call, stack("rtx-4090", "2.9.1", 91500)) == route(call, stack("rtx-4090")) == "cudnn"
    assert route(replace(call, channels_last=True), older) == "cudnn"
