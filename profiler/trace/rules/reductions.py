"""Reductions: sums, means, norms, variances, extrema. What their kernels borrow is in `profiler/kernels/reduction.py`.

Here is what an op makes of its arguments before it calls such a kernel (ATen/native ReduceOps.cpp, ReduceOpsUtils.h,
ReduceAllOps.cpp, LinearAlgebra.cpp), and the kernel's types (native/cuda Reduce*Kernel.cu): those by which torch 2.13's
library names its kernels.
"""

from dataclasses import dataclass
from typing import Any

import torch

from profiler.kernels.prices import Price
from profiler.kernels.reduction import Reduction
from profiler.trace.tracing import Rule, Tracing

aten = torch.ops.aten
COMPOSITES = (
    torch._C.DispatchKey.CompositeImplicitAutograd,
    torch._C.DispatchKey.CompositeExplicitAutograd,
    torch._C.DispatchKey.CompositeExplicitAutogradNonFunctional,
)
HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A family of kernels. A partial value has `size + factor * (bytes of the type that is computed in)` bytes.

    `casts`: the input becomes the result's type first, except 16-bit floats that go into fp32. `widens`: 16-bit floats are
    computed in fp32. `in_output`: the result may hold partial values; None: if it is wide enough, which 16-bit results of
    16-bit inputs are not. `orders`: with no dimension given the input is made contiguous. `skips`: where one element is
    reduced, an elementwise kernel answers.
    """

    size: int = 0
    factor: int = 1
    casts: bool = True
    widens: bool = True
    in_output: bool | None = None
    orders: bool = False
    skips: bool = False


SUM = Kind()
PRODUCT = Kind(in_output=True)  # compiled at run time (jiterator), with partial values of the result's type
NORM = Kind(skips=True)
# WelfordData: mean, sum of squares, and the count as an int32, which is padded, and as a float.
WELFORD = Kind(factor=4, in_output=False)
EXTREMUM = Kind(casts=False, widens=False)
OF_ALL = Kind(casts=False, widens=False, orders=True)
WITH_INDEX = Kind(size=16, factor=0, casts=False, in_output=False)  # a value and its position, padded
POSITION = Kind(size=16, factor=0, casts=False, in_output=False, orders=True, skips=True)
BOTH = Kind(factor=2, casts=False, widens=False, in_output=False, orders=True)
LOGICAL = Kind(size=1, factor=0, casts=False)


def _reduction(kind: Kind) -> Rule:
    """The rule of an op whose kernels are of `kind`: its results are born, then its input is made ready and reduced."""

    def rule(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
        x, dim = given["self"], given.get("dim")
        results = trace.infer(func, args, kwargs)
        trace.track(results)
        outputs = [results] if isinstance(results, torch.Tensor) else list(results)
        taken: list[int] = []
        if kind.orders and dim is None:
            flat = x.reshape(-1) if kind is POSITION else x.contiguous()
            taken += [] if flat.untyped_storage()._cdata == x.untyped_storage()._cdata else trace.take_copy(flat)
            x = flat
        dims = _dims(x, dim)
        is_skipped = kind.skips and all(x.shape[i] == 1 for i in dims if x.dim())
        is_loaded = x.dtype in HALVES and outputs[0].dtype == torch.float32 and not is_skipped
        if kind.casts and x.dtype != outputs[0].dtype and not is_loaded:
            x = torch.empty_like(x, dtype=outputs[0].dtype)
            taken += trace.take_copy(x)
        if not is_skipped:
            call = _call(trace, kind, x, outputs, dims, given.get("keepdim", False))
            trace.give_back(trace.take(Price(call)))
        trace.give_back(taken)
        return results

    return rule


def _call(
    trace: Tracing, kind: Kind, x: torch.Tensor, outputs: list[torch.Tensor], dims: tuple[int, ...], keepdim: bool
) -> Reduction:
    """The kernel's call. Whether any or all are true is kept as a number of the input's type up to torch 2.11."""
    size = x.dtype.itemsize
    is_narrow = x.dtype in HALVES and outputs[0].dtype == x.dtype
    computed = torch.float32 if kind.widens and x.dtype in HALVES else x.dtype
    is_number = kind is LOGICAL and trace.stack.torch_release < (2, 12, 0)
    return Reduction(
        shape=tuple(x.shape),
        strides=None if x.is_contiguous() else tuple(x.stride()),
        offset=int(x.storage_offset()),
        dims=dims,
        keepdim=keepdim,
        item=size,
        outputs=tuple(y.dtype.itemsize for y in outputs),
        partial=size if is_number else kind.size + kind.factor * computed.itemsize,
        in_output=not is_narrow if kind.in_output is None else kind.in_output,
    )


def _dims(x: torch.Tensor, dim: Any) -> tuple[int, ...]:
    """The reduced dimensions, counted from 0: all for None or an empty list."""
    listed = [dim] if isinstance(dim, int) else dim or range(x.dim())
    return tuple(sorted({i % max(1, x.dim()) for i in listed}))


def composed(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An op that calls others inside: seen op by op, in the order of torch's own code."""
    key = next(k for k in COMPOSITES if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), k))
    with trace:
        return func._op_dk(key, *args, **kwargs)


def _count_nonzero(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, dims = args
    with trace:
        return torch.sum(x if x.dtype == torch.bool else x != 0, dims)


def _mean_of_losses(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Loss.cu: the result is born as large as all losses, which have a buffer of their own, and keeps that storage."""
    x, target, reduction = (*args, 1)[:3]
    losses = trace.infer(func, (x, target, 0, *args[3:]), {})
    reduction = kwargs.get("reduction", reduction)
    trace.track(losses)
    if not reduction:
        return losses
    result = losses.as_strided((), ())
    taken = trace.take_copy(losses)
    trace.give_back(trace.take(Price(_call(trace, SUM, losses, [result], _dims(losses, None), False))))
    trace.give_back(taken)
    return result


NAMES: dict[Any, tuple[Kind, list[str]]] = {
    aten.sum: (SUM, ["default", "dim_IntList", "IntList_out"]),
    aten.mean: (SUM, ["default", "dim"]),
    aten.nansum: (SUM, ["default"]),
    aten.prod: (PRODUCT, ["default", "dim_int"]),
    aten.linalg_vector_norm: (NORM, ["default"]),
    aten.norm: (NORM, ["ScalarOpt_dim", "ScalarOpt_dim_dtype"]),
    aten.var: (WELFORD, ["correction"]),
    aten.std: (WELFORD, ["correction"]),
    aten.var_mean: (WELFORD, ["correction"]),
    aten.std_mean: (WELFORD, ["correction"]),
    aten.amax: (EXTREMUM, ["default"]),
    aten.amin: (EXTREMUM, ["default"]),
    aten.max: (OF_ALL, ["default"]),
    aten.min: (OF_ALL, ["default"]),
    aten.aminmax: (BOTH, ["default"]),
    aten.argmax: (POSITION, ["default"]),
    aten.argmin: (POSITION, ["default"]),
    aten.any: (LOGICAL, ["default", "dim", "dims"]),
    aten.all: (LOGICAL, ["default", "dim", "dims"]),
}
RULES: dict[Any, Rule] = {
    **{getattr(op, name): _reduction(kind) for op, (kind, names) in NAMES.items() for name in names},
    aten.max.dim: _reduction(WITH_INDEX),
    aten.min.dim: _reduction(WITH_INDEX),
    **dict.fromkeys([aten.norm.Scalar, aten.norm.ScalarOpt_dtype, aten.count_nonzero.default], composed),
    **dict.fromkeys([aten.logsumexp.default, aten.logsumexp.out, aten._safe_softmax.default], composed),
    aten.count_nonzero.dim_IntList: _count_nonzero,
    **dict.fromkeys([aten.mse_loss.default, aten.smooth_l1_loss.default], _mean_of_losses),
}
