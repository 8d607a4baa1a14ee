"""Stands in for what cuDNN finds beside a GPU, where there is none: it then plans as beside one.

NVIDIA's driver: cuDNN 9.27 and later do not load without `libcuda.so.1`. Any version leaves out engines that are compiled
at run time where it finds no driver: for depthwise convolutions in channels-last order they come first on many cards. To
plan, it needs the driver's functions to be there; it gets along with their answer "not initialized".

cuBLASLt, whose library does not start without a GPU. Where it answers, cuDNN hands pointwise convolutions to it before any
engine of its own; without it the first plan copies the image, of gigabytes. cuDNN asks it to start and which algorithms it
has for a product. The stand-in has as many as are asked for, without workspace, and leaves the rest to the library itself.
On a real H200 (cuDNN 9.19.0, torch 2.11.0, 2026-11-26) 7,523 of its 7,775 pointwise convolutions borrowed 512 bytes at
most, the others, fp32 but for 25, up to 17 MB where it splits the sum.
"""

import ctypes
import os
import platform
import re
from pathlib import Path

from profiler.kernels.elf import MACHINES, shared_library

DRIVER = "libcuda.so.1"
NEEDS_IT = "libcudnn_engines_runtime_compiled.so.9"  # the only part of cuDNN that is linked to the driver
# Machine code, by machine. `return 3;`, CUDA_ERROR_NOT_INITIALIZED.
NOT_INITIALIZED = {62: b"\xb8\x03\0\0\0\xc3", 183: b"\x60\0\x80\x52\xc0\x03\x5f\xd6"}
# cublasLtCreate(handle): `*handle = handle; return 0;`
STARTS = {62: bytes.fromhex("48893f31c0c3"), 183: bytes.fromhex("000000f900008052c0035fd6")}
# cublasLtDestroy: `return 0;`
ENDS = {62: bytes.fromhex("31c0c3"), 183: bytes.fromhex("00008052c0035fd6")}
# cublasLtMatmulAlgoGetHeuristic(handle, operation, a, b, c, d, preference, asked, results, found): `*found = asked;
# memset(results, 0, 96 * asked); return 0;`: all zero, a result says success and no workspace.
FINDS = {
    62: bytes.fromhex("8b4c2410488b542420890a488b7c24186bc91831c0f3abc3"),
    183: bytes.fromhex("e80340f9e90740f9270100b98a0180524a7d071b8a0000341f8500f84a050051fdffff1700008052c0035fd6"),
}
CUBLAS_LT = {"cublasLtCreate": STARTS, "cublasLtDestroy": ENDS, "cublasLtMatmulAlgoGetHeuristic": FINDS}


def load_stand_ins(cudnn: Path, cublas_lt: Path) -> None:
    """Load what stands in for a GPU's libraries, for the cuDNN in folder `cudnn`, before it looks for them.

    The real driver, else its stand-in, with the part of cuDNN that needs one; then the stand-in of cuBLASLt, with and
    without a GPU: answers are of a card that is named, not of the one that is there. Functions are bound when they are
    called (RTLD_LAZY). Raises OSError where a part cannot be loaded.
    """
    machine = MACHINES.get(platform.machine())
    engines = cudnn / NEEDS_IT
    if engines.exists():
        try:
            ctypes.CDLL(DRIVER, mode=os.RTLD_GLOBAL)
        except OSError:
            if machine:
                # It looks functions up by their names.
                named = re.findall(rb"\0(cu[A-Z]\w+)(?=\0)", engines.read_bytes())
                _load(DRIVER, driver(machine, sorted({name.decode() for name in named})))
        ctypes.CDLL(str(engines), mode=os.RTLD_LAZY)
    if machine:
        _load(cublas_lt.name, cublas(machine, cublas_lt))


def driver(machine: int, functions: list[str]) -> bytes:
    """A driver in which all `functions` answer that it is not initialized."""
    return shared_library(DRIVER, machine, dict.fromkeys(functions, NOT_INITIALIZED[machine]))


def cublas(machine: int, real: Path) -> bytes:
    """The stand-in of the cuBLASLt in file `real`."""
    return shared_library(real.name, machine, {name: code[machine] for name, code in CUBLAS_LT.items()}, str(real))


def _load(name: str, content: bytes) -> None:
    """Load a library from memory: no folder has to be writable, or allow programs."""
    file = os.memfd_create(name)
    os.write(file, content)
    ctypes.CDLL(f"/proc/self/fd/{file}", mode=os.RTLD_GLOBAL)
