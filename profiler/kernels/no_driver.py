"""Stands in for NVIDIA's driver where there is none, so that cuDNN 9.27 and later load: they name `libcuda.so.1` as needed.

To plan, cuDNN calls none of the driver's functions. All that is wanted is a library of that name, so one is written here,
366 bytes without a function in it: whatever would call the driver fails, as it should where no driver is.
"""

import ctypes
import os
import platform
import struct
from pathlib import Path

DRIVER = "libcuda.so.1"
NEEDS_IT = "libcudnn_engines_runtime_compiled.so.9"  # the only part of cuDNN that is linked to the driver
# ELF (elf.h): machines, and what the headers and the dynamic section below name.
MACHINES = {"x86_64": 62, "aarch64": 183}
SHARED_OBJECT, LOAD, DYNAMIC, STACK, READ_WRITE = 3, 1, 2, 0x6474E551, 6
STRINGS, SYMBOLS, STRINGS_BYTES, SYMBOL_BYTES, NAME, END = 5, 6, 10, 11, 14, 0
HEADER, PROGRAM_HEADER, SYMBOL, PAGE = 64, 56, 24, 4096


def load_without_driver(cudnn: Path) -> None:
    """Load the part of cuDNN, in folder `cudnn`, that needs a driver: with the real one, else with the stand-in.

    Functions are bound when they are called (RTLD_LAZY), which none is. Raises OSError where it cannot be loaded.
    """
    engines = cudnn / NEEDS_IT
    if not engines.exists():
        return
    try:
        ctypes.CDLL(str(engines), mode=os.RTLD_LAZY)
    except OSError as error:
        if DRIVER not in str(error) or platform.machine() not in MACHINES:
            raise
        file = os.memfd_create(DRIVER)  # in memory: no folder has to be writable, or allow programs
        os.write(file, empty_library(DRIVER, MACHINES[platform.machine()]))
        ctypes.CDLL(f"/proc/self/fd/{file}", mode=os.RTLD_GLOBAL)
        ctypes.CDLL(str(engines), mode=os.RTLD_LAZY)


def empty_library(name: str, machine: int) -> bytes:
    """A 64-bit ELF library called `name` (its SONAME, by which the loader finds it) that has no symbol."""
    names = b"\0" + name.encode() + b"\0"
    dynamic_at, entries = HEADER + 3 * PROGRAM_HEADER, 6
    symbols_at = dynamic_at + 16 * entries
    names_at = symbols_at + SYMBOL  # one symbol, which stands for none
    size = names_at + len(names)
    dynamic = [
        (NAME, 1), (STRINGS, names_at), (SYMBOLS, symbols_at), (STRINGS_BYTES, len(names)), (SYMBOL_BYTES, SYMBOL), (END, 0),
    ]  # fmt: skip
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)  # 64 bit, little end first, version 1
    fields = (SHARED_OBJECT, machine, 1, 0, HEADER, 0, 0, HEADER, PROGRAM_HEADER, 3, 64, 0, 0)
    # Writable: the loader adds the address at which it put the library to the addresses in the dynamic section.
    segments = [(LOAD, 0, size, PAGE), (DYNAMIC, dynamic_at, 16 * entries, 8), (STACK, 0, 0, 16)]
    return b"".join(
        [
            struct.pack("<16sHHIQQQIHHHHHH", ident, *fields),
            *(struct.pack("<IIQQQQQQ", kind, READ_WRITE, at, at, at, n, n, unit) for kind, at, n, unit in segments),
            *(struct.pack("<qQ", *entry) for entry in dynamic),
            bytes(SYMBOL),
            names,
        ]
    )
