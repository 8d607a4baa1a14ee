"""This machine's card as a card file holds it: what the CUDA runtime says of it, and what CUDA takes outside the allocator.

Attributes are asked of the library that torch loaded. Modules load lazily, so the context grows with each family of kernels
that is used first. Each step is NVML's used bytes less what was used before this process, less the bytes that the allocator
reserved.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from profiler.data.units import less
from profiler.machine.live import device_uuid, need_cuda
from profiler.machine.nvml import devices, used_bytes

# cuDNN's names of a device property record, and the numbers that CUDA gives the attributes (enum cudaDeviceAttr).
ATTRIBUTES: dict[str, int | list[int]] = {
    "maxGridSize": [5, 6, 7], "maxBlockSize": [2, 3, 4], "regsPerBlock": 12, "multiProcessorCount": 16, "warpSize": 10,
    "maxSharedMemoryPerBlock": 8, "maxSharedMemoryPerBlockOptin": 97, "reservedSharedMemoryPerBlock": 111,
    "maxRegistersPerSM": 82, "maxCtasPerSM": 106, "maxThreadsPerBlock": 1, "maxThreadsPerSM": 39,
    "pciDeviceId": 34, "isTccDriver": 35, "supportCoopLaunch": 95,
    "smClockRateKHz": 13, "memClockRateKHz": 36, "l2CacheSize": 38,
}  # fmt: skip


def card_record() -> dict[str, Any]:
    """Name, capability, multiprocessors, total bytes and the property record. Raises UserError without a CUDA device."""
    need_cuda()
    found = torch.cuda.get_device_properties()
    return {
        "name": found.name,
        "capability": [found.major, found.minor],
        "multiprocessors": found.multi_processor_count,
        "total_bytes": found.total_memory,
        "properties": _properties(found),
    }


def _properties(found: Any) -> dict[str, Any]:
    """The property record of the current device, by which cuDNN plans for such a card where there is none."""
    runtime = ctypes.CDLL(f"libcudart.so.{(torch.version.cuda or '').split('.')[0]}")
    device, version = torch.cuda.current_device(), ctypes.c_int()
    runtime.cudaDriverGetVersion(ctypes.byref(version))
    record: dict[str, Any] = {name: _attribute(runtime, number, device) for name, number in ATTRIBUTES.items()}
    return record | {
        "totalGlobalMem": found.total_memory,
        "cudaDeviceId": device,
        "deviceVer": found.major * 100 + found.minor * 10,
        "driverVer": version.value,
        "deviceName": found.name,
    }


def _attribute(runtime: ctypes.CDLL, number: int | list[int], device: int) -> Any:
    if isinstance(number, list):
        return [_attribute(runtime, one, device) for one in number]
    value = ctypes.c_int()
    if error := runtime.cudaDeviceGetAttribute(ctypes.byref(value), number, device):
        raise RuntimeError(f"cudaDeviceGetAttribute({number}) failed with error {error}")
    return value.value


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
