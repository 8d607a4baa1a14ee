"""The stack of this process, read from the real libraries."""

import os
import platform
from dataclasses import asdict, replace
from typing import Any

import torch

from profiler.data.stack import DRY, DeviceName, Stack
from profiler.errors import UserError
from profiler.files.paths import installed
from profiler.machine.environment import settings_here
from profiler.machine.nvml import find, query


def live_stack(device: DeviceName) -> Stack:
    """The stack of `device` (CUDA: its current device). Reading properties takes no memory on the device."""
    settings = settings_here() | ({DRY: os.environ[DRY]} if DRY in os.environ else {})
    stack = Stack(
        device=device, torch=torch.__version__, diffusers=installed("diffusers"), python=platform.python_version()
    )
    if device == "cpu":
        settings |= {"threads": str(torch.get_num_threads()), "cpu": platform.machine()}
        return replace(stack, settings=settings)
    properties = torch.cuda.get_device_properties()
    settings["cudnn.benchmark"] = str(torch.backends.cudnn.benchmark).lower()
    settings["allow_tf32"] = str(torch.backends.cudnn.allow_tf32).lower()
    return replace(
        stack,
        driver=query("nvmlSystemGetDriverVersion").value,
        gpu=properties.name,
        capability=(properties.major, properties.minor),
        multiprocessors=properties.multi_processor_count,
        device_total_bytes=properties.total_memory,
        cuda=torch.version.cuda,
        cudnn=torch.backends.cudnn.version(),
        settings=settings,
    )


def stack_record(asked: str) -> dict[str, Any]:
    """The stack of `cuda`, `cpu`, or `auto`, CUDA where there is one. Raises UserError for `cuda` without a device."""
    if asked == "cuda":
        need_cuda()
    return asdict(live_stack("cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"))


def need_cuda() -> None:
    """Raise UserError, which says what torch is built for, where it sees no CUDA device."""
    if not torch.cuda.is_available():
        built = f"is built for CUDA {torch.version.cuda}, but sees no device"
        raise UserError(f"torch {torch.__version__} {built if torch.version.cuda else 'is a build without CUDA'}")


def device_uuid() -> str | None:
    """The current CUDA device's UUID as NVML spells it, a MIG slice's too; None where torch does not tell."""
    if (uuid := getattr(torch.cuda.get_device_properties(), "uuid", None)) is None:
        return None
    return f"MIG-{uuid}" if find(f"MIG-{uuid}").value is not None else f"GPU-{uuid}"
