"""Sorts, running sums and the largest of a row (ATen/native/cuda); what CUB borrows is in `profiler/kernels/cub.py`."""

from typing import Any

import torch

from profiler.data.units import ceil_div
from profiler.kernels.cub import DIGITS, aligned, scan_bytes, sort_bytes
from profiler.trace.known_values import aten
from profiler.trace.rules.values import choose
from profiler.trace.tracing import Tracing

SHORT = 4096  # elements that one block sorts in place (should_use_small_sort)
MOST = 2**31 - 1
MOST_SCANNED = 2**30
# Of the top-k of long rows; blocks of 40 registers a thread that fit a multiprocessor's 65,536.
THREADS, BLOCKS = 256, 6


def sort(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The op: values and positions."""
    given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    result = trace.infer(func, args, kwargs)
    trace.track(list(result))
    _sort(trace, given["self"], given.get("dim", -1), result[0].stride())
    return result


def _sort(trace: Tracing, x: torch.Tensor, dim: int, strides: tuple[int, ...]) -> None:
    """Sort.cpp: a short row in place, from its positions; longer ones by CUB, which wants them dense, one after another."""
    if not x.dim() or not x.numel():
        return
    length, item, own = x.shape[dim], x.element_size(), x.stride()
    taken: list[int] = []
    if length <= SHORT:
        trace.give_back(trace.borrow(8 * length))
        return
    if x.stride(dim) != 1 or not aten.is_non_overlapping_and_dense.default(x):
        order = sorted(range(x.dim()), key=lambda i: (i == dim % x.dim(), -x.stride()[i]))
        dense = torch.empty([x.shape[i] for i in order], device="meta")
        own = dense.permute([order.index(i) for i in range(x.dim())]).stride()
        taken += trace.borrow(x.numel() * item)
    if strides != own:
        taken += trace.borrow(x.numel() * item) + trace.borrow(x.numel() * 8)
    most = MOST // length * length
    for begin in range(0, x.numel(), most):
        _sort_rows(trace, min(most, x.numel() - begin) // length, length, item)
    trace.give_back(taken)


def _sort_rows(trace: Tracing, rows: int, length: int, item: int) -> None:
    """SortStable.cu: few long rows each by itself, a few all at once and then by row, many as segments."""
    count = rows * length
    if rows == 1 or length >= 1_000_000:
        taken = trace.borrow(length * 8)
        for _ in range(rows):
            _radix_sort(trace, length, item, 8, item * 8)
    elif rows < 128:
        taken = trace.borrow(count * 8) + trace.borrow(count * 8)
        keys = trace.borrow(count * item)
        _radix_sort(trace, count, item, 8, item * 8)
        trace.give_back(keys)
        _radix_sort(trace, count, 8, 0, (rows - 1).bit_length())
    else:
        taken = trace.borrow(count * 8)
        trace.give_back(trace.borrow(aligned(count * item, count * 8)))
    trace.give_back(taken)


def _radix_sort(trace: Tracing, count: int, key: int, value: int, bits: int) -> None:
    size, is_known = sort_bytes(count, key, value, bits, trace.by_card())
    if not is_known:
        trace.unpriced.append(" ".join(trace.ops[-1]).strip())
    trace.give_back(trace.borrow(size))


def topk(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """TensorTopK.cpp: several blocks share a long row; more than one block sorts are sorted like anything else."""
    given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    x, dim = given["self"], given.get("dim", -1)
    result = choose(trace, func, args, kwargs)
    trace.track(list(result))
    best = result[0]
    if not best.numel():
        return result
    taken = [] if x.is_contiguous() else trace.borrow(x.numel() * x.element_size())
    length = x.shape[dim] if x.dim() else 1
    if _is_shared(x.numel() // length, length):
        taken += _shared(trace, x.numel() // length, length, x.element_size())
    trace.give_back(taken)
    if best.dim() and best.shape[dim] > SHORT and given.get("sorted", True):
        taken = trace.borrow(best.numel() * 8) + trace.borrow(best.numel() * best.element_size())
        _sort(trace, best, dim, best.stride())
        trace.give_back(taken + trace.borrow(best.numel() * 8))  # positions among all, gathered
    return result


def _is_shared(rows: int, length: int) -> bool:
    """Whether several blocks share a row (should_use_multiblock)."""
    limits = ((20, 20_000), (40, 10_000), (80, 8_000), (199, 5_000), (799, 3_000), (4000, 800))
    return length >= next((least for most, least in limits if rows <= most), 400)


def _shared(trace: Tracing, rows: int, length: int, item: int) -> list[int]:
    """mbtopk::launch of TensorTopK.cu: thresholds, counts of digits by row and block, then places by CUB's sums by key.

    Digits' sums by row came between torch 2.9.1, which has semaphores instead, and 2.11.0.
    """
    each = min(64, max(4, ceil_div(rows * length, (trace.by_card().multiprocessors or 1) * BLOCKS * THREADS)))
    blocks = rows * ceil_div(length, each * THREADS)
    sums, semaphores = ([rows * DIGITS * 4], []) if trace.stack.torch_release >= (2, 10, 0) else ([], [rows * 4])
    found = [rows * item, *semaphores, rows * 8, 2 * rows * max(4, item)]
    sizes = [*found, blocks * DIGITS * 2, *sums, blocks * 4, blocks * 4]
    taken = [number for size in sizes for number in trace.borrow(size)]
    for _ in range(2):  # the states of up to 32 tiles
        trace.give_back(trace.borrow(aligned(aligned(512), 4)))
    return taken


def running(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """ScanKernels.cpp: the input in the result's type, then in order; where all is one row, CUB's states."""
    x, y = args[0], trace.infer(func, args, kwargs)
    trace.track(y)
    if not x.dim() or not x.numel():
        return y
    taken = []
    if x.dtype != y.dtype:
        x = torch.empty_like(x, dtype=y.dtype)
        taken += trace.take_copy(x)
    taken += trace.take_ordered(x)
    if x.numel() == x.shape[args[1]]:
        for begin in range(0, x.numel(), MOST_SCANNED):
            first = trace.borrow(x.element_size()) if begin else []
            trace.give_back(
                first
                + trace.borrow(scan_bytes(min(MOST_SCANNED, x.numel() - begin), x.element_size(), trace.by_card()))
            )
    trace.give_back(taken)
    return y


RULES = {
    **dict.fromkeys([aten.sort.default, aten.sort.stable], sort),
    **dict.fromkeys([aten.cumsum.default, aten.cumprod.default], running),
    aten.topk.default: topk,
}
