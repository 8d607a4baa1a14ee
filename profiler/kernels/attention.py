"""Which scaled-dot-product kernel CUDA would pick, and what it allocates.

Selection follows ATen native/transformers/cuda/sdp_utils.cpp; buffers follow the kernels' host code beside it. Sizes of
buffers were read off those allocations on torch 2.11 and 2.13; what each kernel takes was seen there in dry CUDA too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from profiler.data.stack import Stack
from profiler.data.units import ELEMENT_BYTES, by, ceil_div, round_up
from profiler.data.workload import AttentionName
from profiler.errors import NoKernelError
from profiler.kernels.convolution import HALF

PackageName = Literal["flash-attn", "sage", "xformers"]  # kernels of packages besides torch, which diffusers may call
KernelName = AttentionName | PackageName
SAGE = ((8, 0), (8, 6), (8, 9), (9, 0), (12, 0))  # the architectures that sageattention/core.py has a kernel for

MASK_ALIGNMENT = 8  # the memory-efficient kernel reads bias rows of a multiple of this many elements
PADDED = 2  # the place among its buffers of a mask that was padded


@dataclass(frozen=True, kw_only=True)
class Attention:
    """One call, by shapes: `q`, `k`, `v` are (B, heads, S, d); `mask` broadcasts to (B, heads, S_q, S_k).

    `packed`: the last dimension of all of them has stride 1. `gqa`: keys may have fewer heads than queries.
    """

    q: tuple[int, ...]
    k: tuple[int, ...]
    v: tuple[int, ...]
    dtype: str
    mask: tuple[int, ...] | None = None
    mask_is_bool: bool = False
    gqa: bool = False
    packed: bool = True
    causal: bool = False


def choose_kernel(call: Attention, stack: Stack, allowed: Sequence[KernelName] | None = None) -> KernelName:
    """The kernel that `torch.nn.functional.scaled_dot_product_attention` runs: the first of `allowed` that can.

    They stand in the order in which they are tried; by default all of torch's own in torch's order. Raises NoKernelError,
    with the reasons, where none of them can: torch has another to fall back to only where it is allowed.
    """
    tried = default_order(stack) if allowed is None else allowed
    found = next((name for name in tried if refusal(name, call, stack) is None), None)
    if found is not None:
        return found
    reasons = "; ".join(f"{name} {refusal(name, call, stack)}" for name in tried) or "every kernel is switched off"
    able = ", ".join(name for name in default_order(stack) if refusal(name, call, stack) is None)
    raise NoKernelError(
        f"No available kernel for an attention of {by(call.q)} queries and {by(call.k)} keys in {call.dtype} on "
        f"{stack.gpu or 'this card'}: {reasons}. Kernels that can: {able}"
    )


def path(kernel: KernelName) -> str:
    """Kernels of one path allocate the same tensors, besides buffers: those that are fused give the output their query's
    order of memory, `efficient` a packed one; `math` has tensors of its own."""
    return kernel if kernel in ("efficient", "math") else "fused"


def default_order(stack: Stack) -> tuple[AttentionName, ...]:
    """torch's own kernels in the order in which it tries them; it never comes to one behind `math`, which takes all."""
    return ("cudnn", "flash", "efficient", "math") if _prefers_cudnn(stack) else ("flash", "efficient", "math", "cudnn")


def refusal(kernel: KernelName, call: Attention, stack: Stack) -> str | None:
    """Why `kernel` cannot run a call, to be read after its name; None where it can. What xformers refuses is not known.

    sdp_utils.cpp, can_use_flash_attention and its sisters; flash_api.cpp of flash-attn; core.py of sageattention.
    """
    if kernel in ("math", "xformers"):
        return None
    capability, half, masked = stack.capability or (0, 0), call.dtype in HALF, call.mask is not None
    efficient, cudnn, flash = kernel == "efficient", kernel == "cudnn", kernel == "flash"
    depth, width = call.q[-1], call.v[-1]
    oldest = (5, 0) if efficient and call.dtype != "bfloat16" else (8, 0)
    # minimum_gemm_alignment: tensor cores load 16 bytes at once; before Ampere they take no fp32, and any size will do.
    alignment = 8 if half else 4 if capability >= (8, 0) else 1
    limit = _cudnn_limit(call, stack) if cudnn else 128 if kernel == "sage" else 256
    checks = [
        (len(call.q) != 4, f"takes tensors of 4 dimensions, not {len(call.q)}"),
        (not call.packed, "takes tensors whose last dimension is contiguous"),
        (call.q[0] != call.k[0], f"takes one batch size, not {call.q[0]} of queries and {call.k[0]} of keys"),
        (
            call.q[1] != call.k[1] and (efficient or not call.gqa),
            f"takes no {call.q[1]} heads over {call.k[1]} of keys",
        ),
        (not half and not efficient, f"takes float16 and bfloat16, not {call.dtype}"),
        (capability < oldest, f"needs architecture {_version(oldest)}, this card has {_version(capability)}"),
        (kernel == "sage" and capability not in SAGE, f"has no kernel for architecture {_version(capability)}"),
        (flash and masked, "takes no mask"),
        (flash and call.causal and call.q[-2] != call.k[-2], "takes a causal mask for as many queries as keys only"),
        (flash and depth != width, f"takes heads of one size, not {depth} and {width}"),
        (
            (efficient or cudnn) and (depth % alignment or width % alignment) > 0,
            f"takes heads of a multiple of {alignment}",
        ),
        (not efficient and max(depth, width) > limit, f"takes heads up to {limit}, not {max(depth, width)}"),
        (cudnn and call.k[-2] == 1, "takes more than one key"),
        (cudnn and masked and len(call.mask or ()) not in (2, 4), "takes masks of 2 or 4 dimensions"),
    ]
    return next((reason for fails, reason in checks if fails), None)


def _cudnn_limit(call: Attention, stack: Stack) -> int:
    """check_cudnn_tensor_shapes: 256 on Hopper; 192 beside 128, as some decoders have them, on data-centre Blackwell."""
    if stack.capability == (9, 0):
        return 256
    wide = (call.q[-1], call.v[-1]) == (192, 128) and (stack.capability or (0, 0))[0] == 10
    return 192 if wide and (stack.cudnn or 0) >= 91100 else 128


def _version(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def buffers(call: Attention, kernel: KernelName, stack: Stack) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Scratch of a kernel in inference: what it allocates before its output, and after it. All freed when it returns.

    The math path has none of its own: its tensors are traced. Of sage and xformers it is not known: the estimate says so.
    """
    size = ELEMENT_BYTES[call.dtype]
    batch, heads, length, depth = call.q
    width = call.v[-1]
    rows = batch * heads * length * 4  # log-sum-exp in fp32
    if kernel == "cudnn":
        # Dropout seed and offset; the engine's workspace, seen on Hopper and on no card of sm80, sm89, sm100 or sm120.
        return (*_mask_buffers(call, kernel), 8, 8), (256,) if (stack.capability or (0, 0))[0] == 9 else ()
    if kernel == "flash-attn":
        return (), (rows, 16)  # flash_api.cpp of that package: and the state of the random numbers, as torch's copy
    if kernel == "flash":
        padded = round_up(depth, 8)
        copies = [prod(t) // depth * padded * size for t in (call.q, call.k, call.v)] if padded != depth else []
        splits = _flash_splits(call, stack.multiprocessors) if stack.multiprocessors else 1
        partial = (splits * rows, splits * rows * round_up(depth, 32 if depth <= 128 else 64)) if splits > 1 else ()
        return tuple(copies), (rows, *partial, 16, 8)  # log-sum-exp, those of splits, seed, offset
    if kernel == "efficient":
        # Head dims above 128 do not fit the kernel's registers: partial sums live in an fp32 copy of the output.
        spilled = call.dtype in HALF and width > 128
        return _mask_buffers(call, kernel), (batch * length * heads * width * 4,) if spilled else ()
    return (), ()


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


def _mask_buffers(call: Attention, kernel: KernelName) -> tuple[int, ...]:
    """A bool mask becomes one of the query's dtype; the memory-efficient kernel also pads unaligned rows. 0 for neither.

    Of that kernel: one converted to be padded, one converted and left so, one padded. Each lives as long at every size.
    """
    if (mask := call.mask) is None:
        return 0, 0
    size, row = ELEMENT_BYTES[call.dtype], mask[-1]
    converted = prod(mask) * size if call.mask_is_bool else 0
    if kernel != "efficient":
        return converted, 0
    if row % MASK_ALIGNMENT == 0:
        return 0, converted, 0
    return converted, 0, prod(mask) // row * round_up(row, MASK_ALIGNMENT) * size


def _prefers_cudnn(stack: Stack) -> bool:
    """From torch 2.11 cuDNN comes first on Hopper and data-centre Blackwell, given cuDNN above 9.15.0."""
    return (
        stack.torch_release >= (2, 11, 0)
        and (stack.cudnn or 0) > 91500
        and stack.capability in ((9, 0), (10, 0), (10, 3))
        and not stack.is_set("TORCH_CUDNN_SDPA_DEPRIORITIZED")
    )
