"""The environment variables that change what kernels or the allocator take, and what becomes of each in an estimate.

One table for measured and assumed stacks: what is set becomes part of `Stack.settings`, and so of the stack's fingerprint;
the answer says it; what has no rule here is refused.
"""

import os
from collections.abc import Mapping
from typing import Literal

from profiler.data.alloc_conf import OTHER_SINCE, OTHER_VARIABLE, VARIABLE, read_alloc_conf, read_modelled
from profiler.data.stack import Stack
from profiler.errors import UserError
from profiler.files.paths import installed

Fate = Literal["modelled", "no bytes", "refused"]

# What was seen in torch 2.13's CUDA build stands for the releases before it.
VARIABLES: dict[str, tuple[Fate, str]] = {
    VARIABLE: ("modelled", "the allocator is replayed so"),
    OTHER_VARIABLE: ("modelled", "the allocator is replayed so"),
    "CUBLAS_WORKSPACE_CONFIG": ("modelled", "the size of cuBLAS's workspace"),
    "CUBLASLT_WORKSPACE_SIZE": ("modelled", "KiB of cuBLASLt's workspace, where that is its own"),
    "TORCH_CUBLASLT_UNIFIED_WORKSPACE": ("modelled", "whether cuBLASLt has cuBLAS's workspace for its own"),
    "TORCH_BLAS_PREFER_CUBLASLT": ("modelled", "which library multiplies, and so whose workspace is taken"),
    "DISABLE_ADDMM_CUDA_LT": ("modelled", "which library multiplies with a bias, and so whose workspace is taken"),
    "TORCH_CUDNN_SDPA_DEPRIORITIZED": ("modelled", "cuDNN's attention comes last"),
    "NVIDIA_TF32_OVERRIDE": ("modelled", "0: fp32 convolutions without tensor cores"),
    "TORCH_LINEAR_FLATTEN_3D": ("modelled", "traced as it is here"),
    "CUDA_MODULE_LOADING": ("modelled", "EAGER: the CUDA context is larger than the one measured, and so unknown"),
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": ("no bytes", "fp32 matrix products take the same workspace with TF32"),
    "TORCH_CUDNN_V8_API_LRU_CACHE_LIMIT": ("no bytes", "cuDNN's plans are made again, the same ones; --benchmark: timed"),
    "TORCH_CUDNN_SDPA_AVOID_RECOMPILE": ("no bytes", "cuDNN's attention takes the same buffers"),
    "PYTORCH_NO_CUDA_MEMORY_CACHING": ("refused", "nothing is counted without the caching allocator"),
    "TORCH_CUDNN_V8_API_DISABLED": ("refused", "cuDNN's old interface picks other algorithms, whose workspace is not known"),
    "TORCH_CUDNN_USE_HEURISTIC_MODE_B": ("refused", "cuDNN's plans in that mode are not known"),
    "CUDNN_ERRATA_JSON_FILE": ("refused", "cuDNN's plans without the engines that it bars are not known"),
    "PYTORCH_TUNABLEOP_ENABLED": ("refused", "matrix products are timed in copies of their operands, which are not priced"),
}  # fmt: skip
OFF_BY_ZERO = ("TORCH_CUDNN_V8_API_DISABLED", "TORCH_CUDNN_USE_HEURISTIC_MODE_B", "PYTORCH_TUNABLEOP_ENABLED")


def settings_here() -> dict[str, str]:
    """What this process's environment sets of `VARIABLES`."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def environment_with(alloc_conf: str | None, device: str) -> dict[str, str]:
    """The environment for a process that measures: this one's, with `alloc_conf` for the allocator where given.

    Raises UserError for what torch would refuse there, and for `alloc_conf` on a device without that allocator.
    """
    here = Stack(device="cuda", torch=installed("torch") or "", settings=dict(os.environ))
    if alloc_conf is not None:
        need_allocator(device)
        here = here.with_alloc_conf(alloc_conf)
    if device != "cpu":
        read_alloc_conf(here.alloc_conf, here.torch_release)
    return here.settings


def need_allocator(device: str) -> None:
    """Raise UserError for the CPU, where a setting of the allocator would be one that does nothing."""
    if device == "cpu":
        raise UserError("the CPU has no caching allocator to set up or to keep from memory; leave the settings out")


def check_settings(stack: Stack) -> None:
    """Raise UserError for settings of a CUDA stack that torch would refuse, or for which there is no estimate."""
    if stack.device != "cuda":
        return
    read_modelled(stack.alloc_conf, stack.torch_release)
    for name, value in stack.settings.items():
        fate, why = VARIABLES.get(name, ("modelled", ""))
        if fate == "refused" and not (name in OFF_BY_ZERO and value != "1"):
            raise UserError(f"{name}={value}: {why}; unset it for an estimate")


def say_settings(stack: Stack) -> str:
    """What became of each setting, for a reader; empty where none is set."""
    release, settings = stack.torch_release, stack.settings
    said = {name: VARIABLES[name][1] for name in settings if name in VARIABLES}
    said |= dict.fromkeys(said.keys() & OFF_BY_ZERO, "off, as by default")
    if OTHER_VARIABLE in said and release < OTHER_SINCE:
        said[OTHER_VARIABLE] = f"torch before {'.'.join(map(str, OTHER_SINCE))} does not read it"
    conf = read_alloc_conf(stack.alloc_conf, release)
    if "garbage_collection_threshold" in conf and conf.get("per_process_memory_fraction", 1.0) == 1.0:
        text = "; garbage_collection_threshold has no effect without a memory fraction below 1: nothing is collected"
        said = {name: why + text if "ALLOC_CONF" in name else why for name, why in said.items()}
    return "; ".join(f"{name}={settings[name]} ({why})" for name, why in said.items())


def context_with(context: int | None, settings: Mapping[str, str]) -> int | None:
    """A card's CUDA context, as measured with modules loaded lazily; None where all of them are loaded at once."""
    return None if settings.get("CUDA_MODULE_LOADING") == "EAGER" else context
