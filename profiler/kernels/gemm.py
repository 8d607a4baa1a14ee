"""What cuBLAS borrows."""

from profiler.data.stack import Stack
from profiler.data.units import MIB


def cublas_workspace_bytes(stack: Stack) -> int:
    """cuBLAS's default workspace: 32 MiB from Hopper on, `:4096:2:16:8` (8,519,680 bytes) before.

    Consumer Blackwell was seen with 32 MiB in torch 2.13, and counted among "before" by 2.11: 2.12 is a guess.
    """
    major, _ = stack.capability or (0, 0)
    large = major in (9, 10) or (major == 12 and stack.torch_release >= (2, 12, 0))
    return 32 * MIB if large else 8_519_680
