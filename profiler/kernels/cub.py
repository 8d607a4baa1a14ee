"""What CUB's sums and sorts of a row borrow, as ATen calls them (ATen/cuda/cub.cuh, SortStable.cu). Knows nothing of torch.

The sizes are those of CUB's AliasTemporaries, dispatch_scan.cuh and dispatch_radix_sort.cuh: each part begins at a multiple
of 256 bytes. How many elements a block takes is in CUB's tables, by architecture and bytes of an element.
"""

from profiler.data.stack import Stack
from profiler.data.units import ceil_div
from profiler.kernels.reduction import THREADS_PER_MULTIPROCESSOR

ONE_BLOCK = 4096  # numbers that a single block sums
DIGITS = 256  # values of the 8 bits that one pass sorts by
MOST_AT_ONCE = 2**28 - 1  # elements whose places 32-bit counters hold beside two flags


def aligned(*parts: int) -> int:
    """Bytes of one buffer for all `parts`, wherever it begins."""
    return sum(ceil_div(part, 256) * 256 for part in parts) + 255


def scan_bytes(count: int, item: int, stack: Stack) -> int:
    """Running sums of `count` elements of `item` bytes: a state for each tile and for 32 before the first.

    A state is one word that holds flag and value; 16-bit floats keep a flag and two values apart. In CUDA 13's CUB (torch
    2.11.0) the words, too, are a buffer of their own within the buffer, in CUDA 12.8's (torch 2.9.1) they are the buffer.
    """
    states = ceil_div(count, 128 * max(1, min(60 // item, 30))) + 32
    words = states * 2 * item
    if item < 4:
        words = aligned(states * 4, states * item, states * item)
    elif stack.torch_release >= (2, 10, 0):
        words = aligned(words)
    return aligned(words)


def sum_bytes(stack: Stack) -> int:
    """The sum of more than `ONE_BLOCK` numbers of 4 bytes: a part for each block, five times those that run at once."""
    threads = THREADS_PER_MULTIPROCESSOR.get(stack.capability or (0, 0), 2048)
    return aligned((stack.multiprocessors or 0) * (threads // 256) * 5 * 4)


def select_bytes(count: int, stack: Stack) -> int:
    """The places of the true among `count` flags: a state of 8 bytes for each tile and for 32 before the first, and a count.

    The elements of a tile (dispatch_select_if.cuh) are read off dry runs of five cards of torch 2.13.
    """
    capability = stack.capability or (0, 0)
    tile = {(8, 0): 2304, (9, 0): 4224}.get(capability, 3520 if capability[0] > 9 else 640)
    return aligned((ceil_div(count, tile) + 32) * 8, 1)


def sort_bytes(count: int, key: int, value: int, bits: int, stack: Stack) -> tuple[int, bool]:
    """A stable sort by `bits` of keys of `key` bytes with values of 8 bytes, or 0. Whether all of it is known, too.

    Several passes need a copy of everything. A onesweep keeps counts of digits, and for each tile a row of them. Before
    Hopper short keys are sorted otherwise: with a buffer that follows from the kernels' registers, and is not counted.
    """
    major = (stack.capability or (0, 0))[0]
    if key < 4 and major < 9:
        return aligned(count * key, count * value), False
    passes, tile = ceil_div(bits, 8), _tile(key, value, major)
    portion = MOST_AT_ONCE // tile * tile
    portions = ceil_div(count, portion) * passes
    rows = ceil_div(min(count, portion), tile)
    copies = (count * key, count * value) if passes > 1 else ()
    return aligned(portions * DIGITS * 8, *copies, rows * DIGITS * 4, portions * 4), True


def _tile(key: int, value: int, major: int) -> int:
    """Elements of a block: threads, and half of the elements that each would take if they had 4 bytes (RegBoundScaling)."""
    if major < 8:
        return 256 * (23 // 2)
    if major < 9:
        return 384 * ((17 if key == 4 and value else 21) // 2)
    threads, items = {1: (384, 18), 2: (512, 23), 4: (384, 29), 8: (384, 24 if value else 30)}[key]
    return threads * (items // 2)
