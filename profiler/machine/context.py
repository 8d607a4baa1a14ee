"""What CUDA takes outside the allocator, step by step.

Modules load lazily, so the context grows with each family of kernels that is used first. Each step is NVML's used bytes
less what was used before this process, less the bytes that the allocator reserved.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from profiler.data.units import less
from profiler.machine.live import device_uuid, need_cuda
from profiler.machine.nvml import devices, used_bytes


def context_ladder() -> dict[str, Any]:
    """The card, torch, and bytes after the first use of each family of kernels. Raises UserError without a CUDA device."""
    before = {uuid: used_bytes(uuid).value for uuid in devices().value or []}
    need_cuda()
    uuid = device_uuid()
    ladder: dict[str, int | None] = {}
    for name, step in _steps().items():
        step()
        torch.cuda.synchronize()
        ladder[name] = less(less(used_bytes(uuid).value, before.get(uuid or "")), torch.cuda.memory_reserved())
    return {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "bytes": ladder}


def _steps() -> dict[str, Callable[[], object]]:
    def ones(*shape: int) -> torch.Tensor:
        return torch.ones(shape, device="cuda", dtype=torch.bfloat16)

    return {
        "context": torch.cuda.synchronize,
        "elementwise": lambda: ones(1024) + 1,
        "gemm": lambda: ones(256, 256) @ ones(256, 256),
        "convolution": lambda: F.conv2d(ones(1, 64, 64, 64), ones(64, 64, 3, 3), padding=1),
        "attention": lambda: F.scaled_dot_product_attention(q := ones(1, 8, 256, 64), q, q),
    }
