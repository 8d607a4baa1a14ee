"""What an op borrows: births and deaths of one call, as torch 2.13.0+cu130 made them in dry CUDA on an H200 (2026-11-26).

A birth is its bytes, a death is minus the birth's number, counted from 1.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from profiler.machine.cards import assumed_stack, find_gpu
from profiler.trace.trace import Trace

BF16, FP32, BOOL = torch.bfloat16, torch.float32, torch.bool


def tensor(shape: tuple[int, ...], dtype: torch.dtype, stride: tuple[int, ...] | None = None) -> torch.Tensor:
    return torch.empty_strided(shape, stride or torch.empty(shape, device="meta").stride(), dtype=dtype, device="meta")


def events(op: Callable[..., torch.Tensor], *args: Any, gpu: str = "h200") -> tuple[list[int], torch.Tensor]:
    """What a trace notes for one call after the first product of the process, and the result."""
    trace = Trace(assumed_stack(find_gpu(gpu), "2.13.0"))
    x = tensor((8, 8), BF16)
    with trace.during("inputs", "inputs"):
        trace.resident(list(args))
    with trace.during("cold", "activations"), torch.inference_mode():
        x.mm(x)
        first, begin = len(trace.blocks), len(trace.events)
        result = op(*args)
        happened = trace.events[begin:]
    return [trace.blocks[n].bytes if n >= 0 else first - 1 - ~n for n in happened], result


def attention(dtype: torch.dtype, heads: int, length: int, depth: int, mask: torch.dtype) -> list[int]:
    q, m = tensor((1, heads, length, depth), dtype), tensor((1, heads, length, length), mask)
    return events(F.scaled_dot_product_attention, q, q, q, m)[0]


def test_a_product_copies_matrices_that_are_neither_rows_nor_columns() -> None:
    x, w = tensor((64, 16, 1280), BF16, (1, 64, 1024)), tensor((64, 1280, 1280), BF16, (0, 1, 1280))
    assert events(torch.bmm, x, w)[0] == [2621440, 2621440, -2]
    assert events(torch.bmm, tensor((64, 16, 1280), BF16, (20480, 1, 16)), w)[0] == [2621440]  # columns


def test_a_number_to_a_power_is_made_a_tensor_unless_it_is_one() -> None:
    assert events(torch.pow, 10000.0, tensor((8,), torch.float64))[0] == [64, 8, -2]
    assert events(torch.pow, 1.0, tensor((4,), FP32))[0] == [16]
    assert events(torch.pow, 2.0, tensor((2, 3), FP32, (1, 2)))[1].stride() == (3, 1)


def test_group_norm_of_one_pixel_has_no_scale_and_shift() -> None:
    x, w = tensor((1, 1024, 1, 1), BF16), tensor((1024,), BF16)
    assert events(torch.native_group_norm, x, w, w, 1, 1024, 1, 32, 1e-6)[0] == [2048, 64, 64, 128, 128, -5, -4]


def test_group_norm_clones_an_input_in_another_order() -> None:
    """Up to torch 2.13 `at::group_norm` clones it, later the op below: whichever torch traces, the estimate has it."""
    x, w = tensor((1, 64, 8, 8), BF16, (64, 1, 512, 64)), tensor((64,), BF16)
    for op, args in ((F.group_norm, (x, 8, w, w)), (torch.native_group_norm, (x, w, w, 1, 64, 64, 8, 1e-6))):
        assert events(op, *args)[0][:8] == [8192, 8192, 16, 16, 32, 32, 256, 256]


def test_a_bool_mask_is_converted_before_all_else_by_two_numbers() -> None:
    assert attention(BF16, 24, 256, 128, BOOL) == [2, 2, 3145728, -2, -1, 8, 8, 1572864, 256, -7, -5, -4, -3]
    assert attention(FP32, 28, 1000, 128, BOOL) == [4, 4, 112000000, -2, -1, 14336000, -3]


def test_a_mask_that_is_padded_is_let_go_before_the_output() -> None:
    assert attention(FP32, 2, 985, 64, BOOL) == [4, 4, 7761800, -2, -1, 7816960, -3, 504320, -4]
    assert attention(FP32, 2, 1004, 64, FP32) == [8096256, 514048, -1]


def test_flash_attention_of_heads_that_it_pads_gives_the_padded_output_cut() -> None:
    for shape, stride, size, cut in (
        ((1, 4, 77, 2), None, 4928, (2464, 616, 8, 1)),
        ((2, 4, 64, 12), (3072, 12, 48, 1), 16384, (4096, 1024, 16, 1)),  # not in the order of its query
    ):
        q = tensor(shape, BF16, stride)
        found, y = events(F.scaled_dot_product_attention, q, q, q)
        assert found[:4] == [size] * 4  # the three that are padded, and the output; 2026-11-27
        assert (y.shape, y.stride()) == (shape, cut)


def test_the_math_path_adds_a_mask_in_place() -> None:
    """Scores of 16 heads x 16 x 16 in fp32: those of the product and those of the softmax."""
    q, mask = tensor((14080, 1, 16, 512), FP32, (1, 115343360, 14080, 225280)), tensor((16, 16), FP32)
    found = events(F.scaled_dot_product_attention, q, q, q, mask)[0]
    assert found.count(14080 * 16 * 16 * 4) == 2


def test_pixel_unshuffle_gives_rows_whatever_order_it_gets() -> None:
    x = tensor((1, 512, 8, 8), BF16, (32768, 1, 4096, 512))
    assert events(F.pixel_unshuffle, x, 2)[1].stride() == (32768, 16, 4, 1)


def test_reflection_padding_copies_what_is_not_in_order() -> None:
    frames = tensor((1, 1024, 8, 120, 208), BF16, (204472320, 24960, 25559040, 208, 1))
    assert events(F.pad, frames, (1, 1, 1, 1, 0, 0), "reflect")[0] == [419758080, 408944640, -2]
    assert events(F.pad, tensor((4, 3, 5), FP32, (15, 1, 3)), (1, 1), "reflect")[0] == [336, 240, -2]


def test_where_casts_what_has_another_dtype() -> None:
    mask, x, y = tensor((1, 25), BOOL), tensor((25,), FP32), tensor((1, 1), BF16)
    assert events(torch.where, mask, x, y)[0] == [4, 100, -1]


def test_an_index_of_32_bits_is_widened() -> None:
    table = tensor((512, 24), FP32)
    assert events(lambda i: table[i], tensor((512,), torch.int32, (3,)))[0] == [4096, 49152, -1]
    assert events(lambda i: table[i], tensor((512,), torch.int64))[0] == [49152]


def test_without_cudnn_the_weight_is_copied_before_the_output() -> None:
    """A T4 has no bf16 convolution of cuDNN's."""
    x, w = tensor((1, 4, 8, 10), BF16, (320, 1, 40, 4)), tensor((5, 4, 3, 3), BF16, (36, 1, 12, 4))
    found = events(F.conv2d, x, w, tensor((5,), BF16), 1, 1, gpu="t4")[0]
    assert found == [640, 360, 800, 5760, -4, -2, -1]


def test_without_cudnn_groups_run_one_after_another() -> None:
    """In dry CUDA on a T4; there the outputs of the groups go first to last."""

    def grouped(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return F.conv3d(x, w, padding=1, groups=2)

    x, w = tensor((2, 8, 5, 20, 24), BF16), tensor((12, 4, 3, 3, 3), BF16)
    found, y = events(grouped, x, w, gpu="t4")
    assert found[:-2] == [38400, 57600, 518400, -3, -1, 38400, 57600, 518400, -6, -4, 115200]
    assert sorted(found[-2:]) == [-5, -2]
    assert y.is_contiguous()
    turned = [t.to(memory_format=torch.channels_last_3d) for t in (x, w)]
    assert events(grouped, *turned, gpu="t4")[0][:4] == [76800, 2592, 38400, 57600]  # both whole, before any group


def test_zeros_like_keeps_strides_that_size_1_leaves_open() -> None:
    x = tensor((1, 1, 2048), BF16, (3670016, 2048, 1))
    assert events(torch.zeros_like, x)[1].stride() == (3670016, 2048, 1)
    assert events(lambda x: torch.zeros_like(x, memory_format=torch.contiguous_format), x)[1].stride() == (
        2048,
        2048,
        1,
    )


def test_a_small_system_is_solved_in_the_libraries_buffers() -> None:
    """Births and deaths as torch 2.13.0+cu130 has them (dry run of 2026-11-26); the work area of 768 is an H100's."""
    one = events(torch.linalg.solve, tensor((2, 2), FP32), tensor((2,), FP32))[0]
    assert one == [8, 16, 8, 4, 768, -5, 8, 8, 8, -8, -7, -6, -2, -3, 1, 1, -10, -9, -4]
    batch = events(torch.linalg.solve, tensor((3, 2, 2), FP32), tensor((3, 2, 1), FP32))[0]
    assert batch == [24, 48, 24, 12, 24, -5, 24, 24, -7, -6, -2, -3, 1, -8, -4]
