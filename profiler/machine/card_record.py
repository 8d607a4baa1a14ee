"""This machine's card as a card file holds it: the CUDA runtime's attributes, asked of the library that torch loaded."""

import ctypes
from typing import Any

import torch

from profiler.machine.live import need_cuda

# cuDNN's names of a device property record, and the numbers that CUDA gives the attributes (enum cudaDeviceAttr).
ATTRIBUTES: dict[str, int | list[int]] = {
    "maxGridSize": [5, 6, 7],
    "maxBlockSize": [2, 3, 4],
    "regsPerBlock": 12,
    "multiProcessorCount": 16,
    "warpSize": 10,
    "maxSharedMemoryPerBlock": 8,
    "maxSharedMemoryPerBlockOptin": 97,
    "reservedSharedMemoryPerBlock": 111,
    "maxRegistersPerSM": 82,
    "maxCtasPerSM": 106,
    "maxThreadsPerBlock": 1,
    "maxThreadsPerSM": 39,
    "pciDeviceId": 34,
    "isTccDriver": 35,
    "supportCoopLaunch": 95,
    "smClockRateKHz": 13,
    "memClockRateKHz": 36,
    "l2CacheSize": 38,
}


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
    error = runtime.cudaDeviceGetAttribute(ctypes.byref(value), number, device)
    if error:
        raise RuntimeError(f"cudaDeviceGetAttribute({number}) failed with error {error}")
    return value.value
