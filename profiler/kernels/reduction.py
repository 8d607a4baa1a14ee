"""What a reduction (sum, mean, norm, variance, maximum, ...) borrows on CUDA: ATen native/cuda/Reduce.cuh, without torch.

One block of threads reduces one or several outputs. Where there are few outputs and much to reduce, several blocks share an
output: each leaves its partial value in a buffer, and a row of semaphores tells which of them is the last, which adds them
up. Whether that is so depends on the card's multiprocessors, on the order of the dimensions in memory and on vectorised
loads. Indices are 32-bit: a larger tensor is reduced part by part, in a buffer for the partial results if the output is too
narrow to hold them. The functions below follow `setReduceConfig` and `gpu_reduce_kernel`, and for the order of dimensions
ATen/TensorIterator.cpp, step by step. The same in the headers of torch 2.7, 2.9 and
2.11 to 2.13.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import NamedTuple

from profiler.data.stack import Stack
from profiler.data.units import ceil_div

WARP, MOST_THREADS, LEAST_VALUES, MOST_VALUES = 32, 512, 16, 256  # a block's threads; values that a thread reduces
MOST_OFFSET = 2**31 - 1
# Resident threads a multiprocessor may have (CUDA C++ Programming Guide, technical specifications); 2048 elsewhere.
THREADS_PER_MULTIPROCESSOR = {(7, 5): 1024, (8, 6): 1536, (8, 7): 1536, (8, 9): 1536, (12, 0): 1536, (12, 1): 1536}


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """One call. The input's `strides` and `offset` count elements; strides are None where it is contiguous.

    `item` and `outputs` are bytes of one element of the input and of each result, `partial` those of a partial value.
    `in_output` says that partial values fit the output's type.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    offset: int = 0
    dims: tuple[int, ...]
    keepdim: bool
    item: int
    outputs: tuple[int, ...]
    partial: int
    in_output: bool = True


def workspace(call: Reduction, stack: Stack) -> tuple[int, ...]:
    """Bytes of the buffers in the order in which they are taken; a 0 gives back the one that was taken last."""
    major_minor = stack.capability or (0, 0)
    threads = THREADS_PER_MULTIPROCESSOR.get(major_minor, 2048)
    return _workspace(call, stack.multiprocessors or 0, threads)


@lru_cache(maxsize=4096)
def _workspace(call: Reduction, multiprocessors: int, threads: int) -> tuple[int, ...]:
    if not prod(call.shape) or not call.shape:
        return ()
    loop = _loop(call)
    partial = _partial_results(call, loop)
    parts = [size for part in _split(loop) for size in _shared(call, part, multiprocessors, threads)]
    return (partial, *parts, 0) if partial else tuple(parts)


class Loop(NamedTuple):
    """TensorIterator's nested loop, innermost dimension first. `strides`: of the results, then of the input, in bytes."""

    shape: list[int]
    strides: list[list[int]]
    offset: int  # where in its storage the input begins

    @property
    def reduced(self) -> int:
        """How many dimensions are reduced; they come first."""
        return self.strides[0].count(0)

    @property
    def fits_32_bits(self) -> bool:
        """Whether 32 bits hold every index and offset (can_use_32bit_indexing)."""
        ends = [1 + sum((n - 1) * s for n, s in zip(self.shape, strides, strict=True)) for strides in self.strides]
        return max(prod(self.shape), *ends) <= MOST_OFFSET


def _loop(call: Reduction) -> Loop:
    """The dimensions in the order in which they are walked, neighbours joined where strides allow it."""
    shape = list(call.shape)
    kept = [1 if i in call.dims else n for i, n in enumerate(shape)]
    out = list(_contiguous(kept))
    for i in call.dims:
        if shape[i] != 1 or not call.keepdim:
            out[i] = 0  # a reduced dimension; one of size 1 that is kept is not told apart from the others
    strides = [[s * size for s in out] for size in call.outputs]
    strides.append([s * call.item for s in call.strides or _contiguous(shape)])
    order = walk_order(shape, strides, len(call.outputs))
    loop = Loop([shape[i] for i in order], [[row[i] for i in order] for row in strides], call.offset * call.item)
    return _joined(loop)


def _contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a contiguous tensor; a size of 0 counts as 1."""
    return tuple(prod(max(n, 1) for n in shape[i + 1 :]) for i in range(len(shape)))


def walk_order(shape: Sequence[int], strides: Sequence[Sequence[int]], results: int = 0) -> list[int]:
    """Dimensions from the fastest on, by the first operand that tells: `strides` has a row for each (reorder_dimensions).

    The first `results` rows are of a reduction's results, whose reduced dimensions come before all others. An insertion
    sort, as some comparisons tell nothing.
    """

    def compare(a: int, b: int) -> int:
        for number, row in enumerate(strides):
            if number < results and (row[a] == 0) != (row[b] == 0):
                return 1 if row[b] == 0 else -1
            if row[a] and row[b]:
                if row[a] != row[b]:
                    return row[a] - row[b]
                if shape[a] > shape[b]:
                    return 1
        return 0

    order = list(reversed(range(len(shape))))
    for i in range(1, len(order)):
        at = i
        for before in range(i - 1, -1, -1):
            found = compare(order[before], order[at])
            if found > 0:
                order[before], order[at] = order[at], order[before]
                at = before
            elif found < 0:
                break
    return order


def _joined(loop: Loop) -> Loop:
    """Neighbouring dimensions that are walked like one are one (coalesce_dimensions)."""
    shape, strides = [loop.shape[0]], [[row[0]] for row in loop.strides]
    for i, n in enumerate(loop.shape[1:], start=1):
        steps = [row[i] for row in loop.strides]
        if 1 in (shape[-1], n) or all(shape[-1] * row[-1] == s for row, s in zip(strides, steps, strict=True)):
            if shape[-1] == 1:
                for row, s in zip(strides, steps, strict=True):
                    row[-1] = s
            shape[-1] *= n
        else:
            shape.append(n)
            for row, s in zip(strides, steps, strict=True):
                row.append(s)
    return Loop(shape, strides, loop.offset)


def _split(loop: Loop) -> Iterator[Loop]:
    """The parts that 32-bit indices can walk, in order: halves of the dimension that reaches farthest, and so on."""
    if loop.fits_32_bits:
        yield loop
        return
    reach = [max((n - 1) * row[i] for row in loop.strides) for i, n in enumerate(loop.shape)]
    longest = max(reversed(range(len(reach))), key=reach.__getitem__)
    first = loop.shape[longest] // 2
    for begin, length in ((0, first), (first, loop.shape[longest] - first)):
        shape = [length if i == longest else n for i, n in enumerate(loop.shape)]
        yield from _split(loop._replace(shape=shape, offset=loop.offset + begin * loop.strides[-1][longest]))


def _partial_results(call: Reduction, loop: Loop) -> int:
    """The buffer for partial results of a split reduction; 0 where the output holds them (AccumulationBuffer)."""
    if loop.fits_32_bits or call.in_output or call.outputs[0] >= call.partial:
        return 0
    extent = max(call.outputs[0], *(n * s for n, s in zip(loop.shape, loop.strides[0], strict=True)))
    return extent // call.outputs[0] * call.partial


def _shared(call: Reduction, loop: Loop, multiprocessors: int, threads: int) -> tuple[int, ...]:
    """Partial values and semaphores of one kernel, where blocks share an output; else nothing (setReduceConfig)."""
    reduced, steps = loop.reduced, loop.strides[-1]
    inputs = prod(n for n, s in zip(loop.shape, loop.strides[0], strict=True) if s == 0)
    outputs = prod(loop.shape) // inputs
    along = reduced == len(loop.shape) or steps[0] < steps[reduced]  # the reduced dimension is the fastest in memory
    x, y = (inputs, outputs) if along else (outputs, inputs)
    # Loads of 2, 4 or 8 elements along the reduced dimension make narrower blocks where there are fewer than 4096 of them:
    # too few to be shared. So they are left out.
    per_load = _outputs_per_load(call, loop) if not along and steps[reduced] == call.item else 1
    if not along:
        x //= per_load
    width, height = _block(x, y, MOST_THREADS // per_load)
    input_step, output_step = (width, 1) if along else (1, width)
    across_warps = ceil_div(inputs, input_step) >= min(height * 16, MOST_VALUES)
    if across_warps:
        input_step *= height
    else:
        output_step *= height
    grid, values = ceil_div(outputs // per_load, output_step), ceil_div(inputs, input_step)
    enough = multiprocessors * (threads // (width * height))
    if not across_warps or values < MOST_VALUES or grid > enough:
        return ()
    sharing = max(min(ceil_div(enough, grid), ceil_div(values, LEAST_VALUES)), ceil_div(values, MOST_VALUES))
    if sharing == 1:
        return ()
    return (call.partial * outputs * sharing * (1 if along else width * per_load), 4 * grid, 0, 0)


def _block(x: int, y: int, most: int) -> tuple[int, int]:
    """Width and height of a block of threads: powers of two, at first no wider than a warp."""
    x, y = (most if n >= most else max(1, 1 << (n.bit_length() - 1)) if n else 1 for n in (x, y))
    height = min(y, most // min(x, WARP))
    return min(x, most // height), height


def _outputs_per_load(call: Reduction, loop: Loop) -> int:
    """How many neighbouring outputs a thread loads for at once: alignment and sizes decide (get_output_vec_size)."""
    others = [s // call.item for i, s in enumerate(loop.strides[-1]) if i != loop.reduced]
    counts = [loop.offset // call.item, loop.shape[loop.reduced], *others]
    return next(n for n in (4, 2, 1) if all(count % n == 0 for count in counts))
