"""The strides of an elementwise op's result, those of TensorIterator.cpp: shape inference on `meta` has others.

The two differ where dimensions of size 1 or equal strides leave the memory order open, and the next convolution decides its
memory format by such strides.
"""

from typing import Any

import torch
from torch._prims_common import make_contiguous_strides_for
from torch.utils._pytree import tree_leaves

from profiler.kernels.reduction import walk_order


def elementwise_strides(func: Any, arguments: Any, shape: torch.Size) -> tuple[int, ...]:
    """Strides of the result, of `shape`, that the pointwise op `func` makes of `arguments` (args and kwargs)."""
    leaves = tree_leaves(arguments)
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    # ATen makes a tensor without dimensions of the other side of `x * 2`: an operand of another shape than x.
    has_number = len(tensors) == 1 and isinstance(leaves[1:2] and leaves[1], (bool, int, float, complex))
    is_binary = has_number and func._overloadname in ("Tensor", "Scalar")
    if not is_binary and all(x.shape == shape for x in tensors):  # compute_fast_setup_type
        if all(x.is_contiguous() for x in tensors):
            return tuple(make_contiguous_strides_for(shape))
        if len(shape) == 4 and all(x.is_contiguous(memory_format=torch.channels_last) for x in tensors):
            return torch.empty(shape, device="meta", memory_format=torch.channels_last).stride()
        if all(
            torch.ops.aten.is_non_overlapping_and_dense.default(x) and x.stride() == tensors[0].stride()
            for x in tensors
        ):
            return tensors[0].stride()
    operands = [_broadcast_strides(x, shape) for x in tensors if x.dim()]
    strides, step = [0] * len(shape), 1
    for dim in walk_order(shape, operands):
        strides[dim] = step
        step *= shape[dim]
    return tuple(strides)


def _broadcast_strides(x: torch.Tensor, shape: torch.Size) -> list[int]:
    """Strides of `x` in a result of `shape`: 0 along what is repeated (compute_strides)."""
    own = [0 if n == 1 != whole else s for n, s, whole in zip(x.shape, x.stride(), shape[-x.dim() :], strict=True)]
    return [0] * (len(shape) - x.dim()) + own
