"""Which scaled-dot-product kernel CUDA would pick, and what it allocates.

Selection follows ATen native/transformers/cuda/sdp_utils.cpp; buffers follow the kernels' host code beside it. Sizes of
buffers were read off those allocations on torch 2.11 and 2.13; what each kernel takes was seen there in dry CUDA too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from profiler.data.stack import Stack
from profiler.data.units import ELEMENT_BYTES, ceil_div, round_up
from profiler.data.workload import AttentionName
from profiler.errors import NoKernelError
from profiler.kernels.convolution import HALF

PackageName = Literal["flash-attn", "sage", "xformers"]  # kernels of packages besides torch, which diffusers may call
KernelName = AttentionName | PackageName
SAGE = ((8, 0), (8, 6), (8, 9), (9, 0), (12, 0))  # the architectures that sageattention/core.py has a kernel for

MASK_ALIGNMENT = 16  # the memory-efficient kernel reads bias rows of a multiple of this many elements


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


@dataclass(frozen=True)
class Buffers:
    """What a kernel allocates besides its output, in order: before it, and after it. All freed when it returns."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


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
        f"No available kernel for an attention of {_by(call.q)} queries and {_by(call.k)} keys in {call.dtype} on "
        f"{stack.gpu or 'this card'}: {reasons}. Kernels that can: {able}"
    )


def default_order(stack: Stack) -> tuple[AttentionName, ...]:
    """torch's own kernels in the order in which it tries them; it never comes to one behind `math`, which takes all."""
    return ("cudnn", "flash", "efficient", "math") if _prefers_cudnn(stack) else ("flash", "efficient", "math", "cudnn")


def refusal(kernel: KernelName, call: Attention, stack: Stack) -> str | None:
    """Why `kernel` cannot run a call, to be read after its name; None where it can."""
    return next(_REFUSALS[kernel](call, stack), None)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def buffers(call: Attention, kernel: KernelName, stack: Stack) -> Buffers:
    """Scratch of a fused kernel, in inference.

    The math path has no scratch of its own: its tensors are traced.
    """
    size = ELEMENT_BYTES[call.dtype]
    batch, heads, length, depth = call.q
    width = call.v[-1]
    mask = _mask_buffers(call, kernel)
    if kernel == "cudnn":
        # Dropout seed and offset; the engine's workspace, seen on Hopper and on no card of sm80, sm89 or sm120.
        return Buffers(before=(8, 8, *mask), after=(256,) if (stack.capability or (0, 0))[0] in (9, 10) else ())
    if kernel in ("sage", "xformers"):
        return Buffers()  # not known: the estimate says so
    if kernel == "flash-attn":
        # flash_api.cpp of that package: log-sum-exp in fp32 and the state of the random numbers, as torch's copy of it.
        return Buffers(after=(batch * heads * length * 4, 16))
    if kernel == "flash":
        padded = round_up(depth, 8)
        copies = [prod(t) // depth * padded * size for t in (call.q, call.k, call.v)] if padded != depth else []
        rows = batch * heads * length * 4
        splits = _flash_splits(call, stack.multiprocessors) if stack.multiprocessors else 1
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


def _mask_buffers(call: Attention, kernel: KernelName) -> tuple[int, ...]:
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
        and "TORCH_CUDNN_SDPA_DEPRIORITIZED" not in stack.settings
    )


def _fused(call: Attention) -> Iterator[str]:
    """What no fused kernel takes, by check_tensor_shapes and the checks of dense inputs."""
    if len(call.q) != 4:
        yield f"takes tensors of 4 dimensions, not {len(call.q)}"
    elif not call.packed:
        yield "takes tensors whose last dimension is contiguous"
    elif call.q[0] != call.k[0]:
        yield f"takes one batch size, not {call.q[0]} queries and {call.k[0]} keys"
    elif call.q[1] != call.k[1] and not call.gqa:
        yield f"takes as many heads of keys as of queries, not {call.k[1]} and {call.q[1]}"


def _half(call: Attention, stack: Stack) -> Iterator[str]:
    """What the kernels of tensor cores ask for."""
    if call.dtype not in HALF:
        yield f"takes float16 and bfloat16, not {call.dtype}"
    if (capability := stack.capability or (0, 0)) < (8, 0):
        yield f"needs architecture 8.0, this card has {_version(capability)}"


def _version(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def _flash(call: Attention, stack: Stack) -> Iterator[str]:
    yield from _fused(call)
    yield from _half(call, stack)
    depth, width = call.q[-1], call.v[-1]
    if call.mask is not None:
        yield "takes no mask"
    if depth != width or depth > 256:
        yield f"takes heads of one size up to 256, not {depth} and {width}"
    if call.causal and call.q[-2] != call.k[-2]:
        yield "takes a causal mask only where there are as many queries as keys"


def _efficient(call: Attention, stack: Stack) -> Iterator[str]:
    yield from _fused(call)
    capability = stack.capability or (0, 0)
    oldest = (8, 0) if call.dtype == "bfloat16" else (5, 0)
    if capability < oldest:
        yield f"needs architecture {_version(oldest)} for {call.dtype}, this card has {_version(capability)}"
    # minimum_gemm_alignment: tensor cores load 16 bytes at once; before Ampere they take no fp32, and any size will do.
    alignment = 8 if call.dtype in HALF else 4 if capability >= (8, 0) else 1
    if call.q[-1] % alignment or call.v[-1] % alignment:
        yield f"takes heads of a multiple of {alignment}, not {call.q[-1]} and {call.v[-1]}"
    if call.q[1] != call.k[1]:
        yield "takes no grouped heads"


def _cudnn(call: Attention, stack: Stack) -> Iterator[str]:
    yield from _fused(call)
    yield from _half(call, stack)
    depth, width = call.q[-1], call.v[-1]
    limit = 256 if stack.capability == (9, 0) else 128
    # check_cudnn_tensor_shapes: 192 beside 128, as some decoders have them, on data-centre Blackwell too.
    wide = (depth, width) == (192, 128) and (stack.capability or (0, 0))[0] == 10 and (stack.cudnn or 0) >= 91100
    if depth % 8 or width % 8 or (max(depth, width) > limit and not wide):
        yield f"takes heads of a multiple of 8 up to {limit}, not {depth} and {width}"
    if call.k[-2] == 1:
        yield "takes more than one key"
    if call.mask is not None and len(call.mask) not in (2, 4):
        yield f"takes masks of 2 or 4 dimensions, not {len(call.mask)}"


def _flash_attn(call: Attention, stack: Stack) -> Iterator[str]:
    """csrc/flash_attn/flash_api.cpp of that package: 16 bit, Ampere or newer, heads up to 256."""
    yield from _half(call, stack)
    if call.q[-1] > 256:
        yield f"takes heads up to 256, not {call.q[-1]}"


def _sage(call: Attention, stack: Stack) -> Iterator[str]:
    """sageattention/core.py: 16 bit, the architectures that it names, heads up to 128."""
    if call.dtype not in HALF:
        yield f"takes float16 and bfloat16, not {call.dtype}"
    if stack.capability not in SAGE:
        yield f"has no kernel for architecture {_version(stack.capability or (0, 0))}"
    if call.q[-1] > 128:
        yield f"takes heads up to 128, not {call.q[-1]}"


def _takes_all(call: Attention, stack: Stack) -> Iterator[str]:
    """The math path takes any call; what xformers refuses is not known."""
    yield from ()


_REFUSALS: dict[KernelName, Callable[[Attention, Stack], Iterator[str]]] = {
    "flash": _flash,
    "efficient": _efficient,
    "cudnn": _cudnn,
    "math": _takes_all,
    "flash-attn": _flash_attn,
    "sage": _sage,
    "xformers": _takes_all,
}
