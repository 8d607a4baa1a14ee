"""Which scaled-dot-product kernel CUDA would pick, and what it allocates.

Selection follows ATen native/transformers/cuda/sdp_utils.cpp; buffers follow the kernels' host code beside it. Sizes of
buffers were read off those allocations on torch 2.11 and 2.13.
"""

from dataclasses import dataclass
from math import prod

from profiler.data.stack import Stack
from profiler.data.units import ELEMENT_BYTES, ceil_div, round_up
from profiler.data.workload import ATTENTION_PACKAGES, AttentionName
from profiler.kernels.convolution import HALF

MASK_ALIGNMENT = 16  # the memory-efficient kernel reads bias rows of a multiple of this many elements


@dataclass(frozen=True, kw_only=True)
class Attention:
    """One call, by shapes: `q`, `k`, `v` are (B, heads, S, d); `mask` broadcasts to (B, heads, S_q, S_k).

    `packed`: the last dimension of all of them has stride 1.
    """

    q: tuple[int, ...]
    k: tuple[int, ...]
    v: tuple[int, ...]
    dtype: str
    mask: tuple[int, ...] | None = None
    mask_is_bool: bool = False
    gqa: bool = False
    packed: bool = True


@dataclass(frozen=True)
class Buffers:
    """What a kernel allocates besides its output, in order: before it, and after it. All freed when it returns."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


def choose_kernel(call: Attention, stack: Stack, pinned: AttentionName | None = None) -> AttentionName:
    """The kernel that `torch.nn.functional.scaled_dot_product_attention` runs; `pinned` if that one can run."""
    if len(call.q) != 4 or not call.packed:
        return "math"  # check_tensor_shapes and check_last_dim_stride_equals_1_dense, of every fused kernel
    usable = {"flash": _flash, "efficient": _efficient, "cudnn": _cudnn}
    if pinned in ATTENTION_PACKAGES:
        return pinned
    if pinned is not None:
        return pinned if pinned == "math" or usable[pinned](call, stack) else "math"
    order: list[AttentionName] = ["flash", "efficient"]
    if _prefers_cudnn(stack):
        order.insert(0, "cudnn")
    return next((name for name in order if usable[name](call, stack)), "math")


def buffers(call: Attention, kernel: AttentionName, processors: int | None = None) -> Buffers:
    """Scratch of a fused kernel, in inference, on a card with so many multiprocessors.

    The math path has no scratch of its own: its tensors are traced.
    """
    size = ELEMENT_BYTES[call.dtype]
    batch, heads, length, depth = call.q
    width = call.v[-1]
    mask = _mask_buffers(call, kernel)
    if kernel == "cudnn":
        return Buffers(before=(8, 8, *mask), after=(256,))  # dropout seed and offset; engine workspace
    if kernel in ("sage", "xformers"):
        return Buffers()  # not known: the estimate says so
    if kernel == "flash-attn":
        # flash_api.cpp of that package: log-sum-exp in fp32 and the state of the random numbers, as torch's copy of it.
        return Buffers(after=(batch * heads * length * 4, 16))
    if kernel == "flash":
        padded = round_up(depth, 8)
        copies = [prod(t) // depth * padded * size for t in (call.q, call.k, call.v)] if padded != depth else []
        rows = batch * heads * length * 4
        splits = _flash_splits(call, processors) if processors else 1
        partial = (splits * rows, splits * rows * round_up(depth, 32 if depth <= 128 else 64)) if splits > 1 else ()
        return Buffers(
            before=tuple(copies), after=(rows, *partial, 16, 8)
        )  # log-sum-exp, those of splits, seed, offset
    if call.dtype in HALF and width > 128:
        # Head dims above 128 do not fit the kernel's registers: partial sums live in an fp32 copy of the output.
        return Buffers(before=mask, after=(batch * length * heads * width * 4,))
    return Buffers(before=mask)


def _flash_splits(call: Attention, processors: int) -> int:
    """Parts into which flash attention cuts the keys where queries alone leave the card idle.

    ATen native/transformers/cuda/flash_attn/flash_api.cpp, set_params_splitkv and num_splits_heuristic: each part keeps
    fp32 sums of its own; the fewest parts that reach 85 % of the best occupancy.
    """
    batch, heads, length, depth = call.q
    block = 256 if depth <= 64 else 128 if depth <= 128 else 64
    blocks = ceil_div(call.k[-2], block)
    work, slots = batch * heads * ceil_div(length, 64), 2 * processors
    if work >= 0.8 * slots:
        return 1
    sizes = range(1, min(128, slots, blocks) + 1)
    usable = [n for n in sizes if n == 1 or ceil_div(blocks, n) != ceil_div(blocks, n - 1)]
    occupancy = {n: work * n / slots / ceil_div(work * n, slots) for n in usable}
    best = max(occupancy.values())
    return next(n for n in usable if occupancy[n] >= 0.85 * best)


def _mask_buffers(call: Attention, kernel: AttentionName) -> tuple[int, ...]:
    """A bool mask becomes one of the query's dtype; the memory-efficient kernel also pads unaligned rows."""
    mask = call.mask
    if mask is None:
        return ()
    size = ELEMENT_BYTES[call.dtype]
    converted = (prod(mask) * size,) if call.mask_is_bool else ()
    row = mask[-1]
    if kernel != "efficient" or row % MASK_ALIGNMENT == 0:
        return converted
    return (*converted, prod(mask) // row * round_up(row, MASK_ALIGNMENT) * size)


def _prefers_cudnn(stack: Stack) -> bool:
    """From torch 2.11 cuDNN comes first on Hopper and data-centre Blackwell, given cuDNN above 9.15.0."""
    return (
        stack.torch_release >= (2, 11, 0)
        and (stack.cudnn or 0) > 91500
        and stack.capability in ((9, 0), (10, 0), (10, 3))
        and not stack.is_set("TORCH_CUDNN_SDPA_DEPRIORITIZED")
    )


def _flash(call: Attention, stack: Stack) -> bool:
    depth = call.q[-1]
    return (
        call.mask is None
        and call.dtype in HALF
        and depth == call.v[-1]
        and depth <= 256
        and (stack.capability or (0, 0)) >= (8, 0)
    )


def _efficient(call: Attention, stack: Stack) -> bool:
    # Tensor-core loads want head dims of a multiple of 16 bytes; fp32 loads of 4 elements.
    alignment = 8 if call.dtype in HALF else 4
    aligned = call.q[-1] % alignment == 0 and call.v[-1] % alignment == 0
    oldest = (8, 0) if call.dtype == "bfloat16" else (5, 0)
    return aligned and not call.gqa and (stack.capability or (0, 0)) >= oldest


def _cudnn(call: Attention, stack: Stack) -> bool:
    depth, width = call.q[-1], call.v[-1]
    limit = 256 if stack.capability == (9, 0) else 128
    return (
        call.dtype in HALF
        and depth % 8 == 0
        and width % 8 == 0
        and max(depth, width) <= limit
        and call.k[-2] > 1
        and (stack.capability or (0, 0)) >= (8, 0)
    )
