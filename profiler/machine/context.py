"""Prints what CUDA takes outside the allocator, step by step, as JSON: `python -m profiler.machine.context`.

Modules load lazily, so the context grows with each family of kernels that is used first. Each step is NVML's used bytes
less what was used before this process, less the bytes that the allocator reserved.
"""

import json
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F

from profiler.machine.nvml import devices, used_bytes


def main() -> None:
    """Use one family of kernels after the other on the current CUDA device; exit code 3 without one."""
    before = {d["uuid"]: used_bytes(d["uuid"]).value for d in devices().value or []}
    if not torch.cuda.is_available():
        sys.stderr.write("no CUDA device\n")
        sys.exit(3)
    from profiler.machine.live import device_uuid

    uuid = device_uuid()
    ladder: dict[str, int | None] = {}
    for name, step in _steps().items():
        step()
        torch.cuda.synchronize()
        now, idle = used_bytes(uuid).value, before.get(uuid or "")
        ladder[name] = None if now is None or idle is None else now - idle - torch.cuda.memory_reserved()
    sys.stdout.write(
        json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "bytes": ladder}) + "\n"
    )


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


if __name__ == "__main__":
    main()
