"""What cuBLAS and cuBLASLt keep for matrix products: ATen cuda/CublasHandlePool.cpp, seen in torch 2.9 to 2.13."""

import re
from dataclasses import dataclass
from typing import Literal

from profiler.data.stack import Stack
from profiler.data.units import MIB

Library = Literal["cuBLAS", "cuBLASLt"]


@dataclass(frozen=True)
class Product:
    """A product of matrices: with a bias added within, or without. `passing` asks for what it gives back at its end."""

    with_bias: bool
    passing: bool = False


def workspaces(product: Product, stack: Stack) -> dict[Library, int]:
    """The bytes of each library's workspace that a product needs; which of them are there already, the caller knows.

    cuBLASLt's own was taken anew for each call before torch 2.9 (pytorch pull 156495): so in 2.7.1, kept in 2.9.1. Before
    2.12 the handle that cuBLASLt borrows of cuBLAS took cuBLAS's workspace along.
    """
    own = lt_workspace_bytes(stack) if runs_on_lt(stack, product.with_bias) else None
    is_kept = stack.torch_release >= (2, 9, 0)
    needed: dict[Library, int] = {}
    if not product.passing and (own is None or stack.torch_release < (2, 12, 0)):
        needed["cuBLAS"] = cublas_workspace_bytes(stack)
    if own is not None and is_kept is not product.passing:
        needed["cuBLASLt"] = own
    return needed


def gives_back(stack: Stack) -> bool:
    """Whether a product may take a workspace that it gives back."""
    return stack.torch_release < (2, 9, 0)


def cublas_workspace_bytes(stack: Stack) -> int:
    """cuBLAS's workspace: what `CUBLAS_WORKSPACE_CONFIG` says in KiB and counts (`:4096:2:16:8`), else its default.

    The default is 32 MiB from Hopper on, `:4096:2:16:8` (8,519,680 bytes) before. Consumer Blackwell has 32 MiB since torch
    2.12.0, and is among "before" in 2.11.0 and 2.9.1: seen in dry runs of each. Text without a pair is as good as unset.
    """
    if pairs := re.findall(r":([0-9]+):([0-9]+)", stack.settings.get("CUBLAS_WORKSPACE_CONFIG", "")):
        return sum(int(size) * 1024 * int(count) for size, count in pairs)
    major, _ = stack.capability or (0, 0)
    large = major in (9, 10) or (major == 12 and stack.torch_release >= (2, 12, 0))
    return 32 * MIB if large else 8_519_680


def lt_workspace_bytes(stack: Stack) -> int | None:
    """cuBLASLt's own workspace; None where it has cuBLAS's for its own, as by default since torch 2.12."""
    if stack.is_set("TORCH_CUBLASLT_UNIFIED_WORKSPACE", default=stack.torch_release >= (2, 12, 0)):
        return None
    size = re.match(r"\s*\d+", stack.settings.get("CUBLASLT_WORKSPACE_SIZE", ""))
    return int(size[0]) * 1024 if size else MIB


def runs_on_lt(stack: Stack, with_bias: bool) -> bool:
    """Whether a matrix product goes to cuBLASLt: those with a bias, and all where the environment prefers it."""
    lt_adds = stack.settings.get("DISABLE_ADDMM_CUDA_LT") != "1"
    return (with_bias and lt_adds) or stack.is_set("TORCH_BLAS_PREFER_CUBLASLT")
