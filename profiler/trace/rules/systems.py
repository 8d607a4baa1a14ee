"""Rules of small linear systems, as a scheduler of several steps solves them (UniPC: one to three rows)."""

from typing import Any

from profiler.trace.known_values import aten
from profiler.trace.tracing import Tracing

MOST_ROWS = 8  # above, ATen solves in other ways (lu_solve_kernel)
WORK_AREA = 768  # of one to sixteen rows on an H100 (torch 2.11.0+cu130, 2026-11-26): cuSOLVER documents no size


def solve(trace: Tracing, func: Any, args: Any, kwargs: Any) -> Any:
    """cuSOLVER factors one matrix in a work area, cuBLAS a batch through addresses; cuBLAS solves either through two lists.

    The solution is written by columns; that of a vector is not laid out so, and is made apart (linalg_lu_solve_out).
    """
    x, lu, _, info = result = trace.infer(func, args, kwargs)
    trace.track(result)
    if lu.shape[-1] > MOST_ROWS or not x.numel():
        return result
    addresses = 8 * info.numel()
    trace.give_back(trace.borrow(WORK_AREA if info.numel() == 1 else addresses))
    is_vector = x.dim() < lu.dim()
    taken = trace.borrow(x.numel() * x.element_size() if is_vector and x.shape[-1] > 1 else 0)
    taken += trace.borrow(addresses) + trace.borrow(addresses)
    trace.keep_gemm_workspace(with_bias=False)
    trace.give_back(taken)
    return result


def check_errors(trace: Tracing, func: Any, args: Any, kwargs: Any) -> None:
    """No factorization fails here; the kernel's `any` takes a byte, of a single code two."""
    trace.give_back([number for _ in range(1 + (args[0].numel() == 1)) for number in trace.borrow(1)])


RULES = {aten._linalg_solve_ex.default: solve, aten._linalg_check_errors.default: check_errors}
