"""Which scaled-dot-product kernel CUDA would pick, and what it allocates.

Selection follows ATen native/transformers/cuda/sdp_utils.cpp; buffers follow the kernels' host code beside it. Sizes of
buffers were read off those allocations on torch 2.11 and 2.13.
"""

from dataclasses import dataclass

import torch

from profiler.stack import Stack
from profiler.workload import AttentionName

HALF = (torch.float16, torch.bfloat16)
MASK_ALIGNMENT = 16  # the memory-efficient kernel reads bias rows of a multiple of this many elements


@dataclass(frozen=True, kw_only=True)
class Attention:
    """One call. `q`, `k`, `v` are (B, heads, S, d); `mask` broadcasts to (B, heads, S_q, S_k)."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    mask: torch.Tensor | None = None
    causal: bool = False
    gqa: bool = False


@dataclass(frozen=True)
class Buffers:
    """What a kernel allocates besides its output, in order: before it, and after it. All freed when it returns."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


def choose(call: Attention, stack: Stack, pinned: AttentionName | None = None) -> AttentionName:
    """The kernel that `torch.nn.functional.scaled_dot_product_attention` runs; `pinned` if that one can run."""
    if call.q.dim() != 4:
        return "math"  # check_tensor_shapes: fused kernels take (B, heads, S, d) only
    usable = {"flash": _flash, "efficient": _efficient, "cudnn": _cudnn}
    if pinned is not None:
        return pinned if pinned == "math" or usable[pinned](call, stack) else "math"
    order: list[AttentionName] = ["flash", "efficient"]
    if _prefers_cudnn(stack):
        order.insert(0, "cudnn")
    return next((name for name in order if usable[name](call, stack)), "math")


def allocate_output(call: Attention, kernel: AttentionName) -> torch.Tensor:
    """The output without data, (B, heads, S_q, d_v), in the memory order that `kernel` gives it."""
    batch, heads, length, _ = call.q.shape
    width = call.v.shape[-1]
    if kernel in ("flash", "cudnn") and width == call.q.shape[-1]:
        # Both allocate like the query: a (B, S, heads, d) query gives an output in that order.
        return torch.empty_like(call.q.transpose(1, 2)).transpose(1, 2)
    return torch.empty((batch, length, heads, width), dtype=call.q.dtype, device=call.q.device).transpose(1, 2)


def buffers(call: Attention, kernel: AttentionName) -> Buffers:
    """Scratch of a fused kernel, in inference. The math path has no scratch of its own: its tensors are traced."""
    q, v = call.q, call.v
    size = q.element_size()
    batch, heads, length, depth = q.shape
    mask = _mask_buffers(call, kernel)
    if kernel == "cudnn":
        return Buffers(before=(8, 8, *mask), after=(256,))  # dropout seed and offset; engine workspace
    if kernel == "flash":
        padded = -(-depth // 8) * 8
        copies = [t.numel() // depth * padded * size for t in (q, call.k, v)] if padded != depth else []
        return Buffers(before=tuple(copies), after=(batch * heads * length * 4, 16, 8))  # log-sum-exp, seed, offset
    if q.dtype in HALF and v.shape[-1] > 128:
        # Head dims above 128 do not fit the kernel's registers: partial sums live in an fp32 copy of the output.
        return Buffers(before=mask, after=(batch * length * heads * v.shape[-1] * 4,))
    return Buffers(before=mask)


def _mask_buffers(call: Attention, kernel: AttentionName) -> tuple[int, ...]:
    """A bool mask becomes one of the query's dtype; the memory-efficient kernel also pads unaligned rows."""
    mask = call.mask
    if mask is None:
        return ()
    size = call.q.element_size()
    converted = (mask.numel() * size,) if mask.dtype == torch.bool else ()
    row = mask.shape[-1]
    if kernel != "efficient" or row % MASK_ALIGNMENT == 0:
        return converted
    return (*converted, mask.numel() // row * (-(-row // MASK_ALIGNMENT) * MASK_ALIGNMENT) * size)


def _prefers_cudnn(stack: Stack) -> bool:
    """From torch 2.11 cuDNN comes first on Hopper and data-centre Blackwell, given cuDNN above 9.15.0."""
    return (
        stack.torch_release >= (2, 11, 0)
        and (stack.cudnn or 0) > 91500
        and stack.capability in ((9, 0), (10, 0), (10, 3))
        and "TORCH_CUDNN_SDPA_DEPRIORITIZED" not in stack.settings
    )


def _flash(call: Attention, stack: Stack) -> bool:
    depth = call.q.shape[-1]
    return (
        call.mask is None
        and call.q.dtype in HALF
        and depth == call.v.shape[-1]
        and depth <= 256
        and (stack.capability or (0, 0)) >= (8, 0)
    )


def _efficient(call: Attention, stack: Stack) -> bool:
    # Tensor-core loads want head dims of a multiple of 16 bytes; fp32 loads of 4 elements.
    alignment = 8 if call.q.dtype in HALF else 4
    aligned = call.q.shape[-1] % alignment == 0 and call.v.shape[-1] % alignment == 0
    return aligned and not call.gqa and (stack.capability or (0, 0)) >= (5, 0)


def _cudnn(call: Attention, stack: Stack) -> bool:
    depth, width = call.q.shape[-1], call.v.shape[-1]
    limit = 256 if stack.capability == (9, 0) else 128
    return (
        call.q.dtype in HALF
        and depth % 8 == 0
        and width % 8 == 0
        and max(depth, width) <= limit
        and call.k.shape[-2] > 1
        and (stack.capability or (0, 0)) >= (8, 0)
    )
