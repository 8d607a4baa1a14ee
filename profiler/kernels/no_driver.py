"""Stands in for NVIDIA's driver where there is none: cuDNN then plans as beside one.

cuDNN 9.27 and later do not load without `libcuda.so.1`. Any version leaves out engines that are compiled at run time where
it finds no driver: for depthwise convolutions in channels-last order they come first on many cards. To plan, it needs
the driver's functions to be there; it gets along with their answer "not initialized".
"""

import ctypes
import os
import platform
import re
import struct
from pathlib import Path

DRIVER = "libcuda.so.1"
NEEDS_IT = "libcudnn_engines_runtime_compiled.so.9"  # the only part of cuDNN that is linked to the driver
# ELF (elf.h): machines, and what the headers and the dynamic section below name.
MACHINES = {"x86_64": 62, "aarch64": 183}
SHARED_OBJECT, LOAD, DYNAMIC, STACK, READ_WRITE = 3, 1, 2, 0x6474E551, 6
HASH, STRINGS, SYMBOLS, STRINGS_BYTES, SYMBOL_BYTES, NAME, END = 4, 5, 6, 10, 11, 14, 0
HEADER, PROGRAM_HEADER, SYMBOL, PAGE, ALL, FUNCTION = 64, 56, 24, 4096, 7, 0x12
# The one function, by machine: it returns 3, CUDA_ERROR_NOT_INITIALIZED.
CODE = {62: b"\xb8\x03\0\0\0\xc3\x90\x90", 183: b"\x60\0\x80\x52\xc0\x03\x5f\xd6"}


def load_without_driver(cudnn: Path) -> None:
    """Load the real driver, else the stand-in, then the part of cuDNN, in folder `cudnn`, that needs one.

    Functions are bound when they are called (RTLD_LAZY). Raises OSError where that part cannot be loaded.
    """
    engines = cudnn / NEEDS_IT
    if not engines.exists():
        return
    try:
        ctypes.CDLL(DRIVER, mode=os.RTLD_GLOBAL)
    except OSError:
        if platform.machine() in MACHINES:
            named = re.findall(rb"\0(cu[A-Z]\w+)(?=\0)", engines.read_bytes())  # it looks functions up by their names
            file = os.memfd_create(DRIVER)  # in memory: no folder has to be writable, or allow programs
            os.write(file, stand_in(DRIVER, MACHINES[platform.machine()], sorted({name.decode() for name in named})))
            ctypes.CDLL(f"/proc/self/fd/{file}", mode=os.RTLD_GLOBAL)
    ctypes.CDLL(str(engines), mode=os.RTLD_LAZY)


def stand_in(name: str, machine: int, functions: list[str]) -> bytes:
    """A 64-bit ELF library called `name` (its SONAME, by which the loader finds it) in which all `functions` are one."""
    names = b"".join(text.encode() + b"\0" for text in ("", name, *functions))
    count = len(functions) + 1  # the first symbol stands for none
    # One bucket: each symbol names the next to look at, the last none.
    table = struct.pack(f"<{count + 3}I", 1, count, min(1, len(functions)), 0, *range(2, count), *[0] * (count > 1))
    dynamic_at, entries = HEADER + 3 * PROGRAM_HEADER, 7
    symbols_at = dynamic_at + 16 * entries
    code_at = symbols_at + SYMBOL * count
    table_at = code_at + len(CODE[machine])
    names_at = table_at + len(table)
    size = names_at + len(names)
    dynamic = [
        (NAME, 1), (HASH, table_at), (STRINGS, names_at), (SYMBOLS, symbols_at), (STRINGS_BYTES, len(names)),
        (SYMBOL_BYTES, SYMBOL), (END, 0),
    ]  # fmt: skip
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)  # 64 bit, little end first, version 1
    fields = (SHARED_OBJECT, machine, 1, 0, HEADER, 0, 0, HEADER, PROGRAM_HEADER, 3, 64, 0, 0)
    # Writable: the loader adds the address at which it put the library to the addresses in the dynamic section.
    segments = [
        (LOAD, ALL, 0, size, PAGE),
        (DYNAMIC, READ_WRITE, dynamic_at, 16 * entries, 8),
        (STACK, READ_WRITE, 0, 0, 16),
    ]
    at = 2 + len(name)
    symbols = [bytes(SYMBOL)]
    for function in functions:
        symbols.append(struct.pack("<IBBHQQ", at, FUNCTION, 0, 1, code_at, len(CODE[machine])))
        at += len(function) + 1
    return b"".join(
        [
            struct.pack("<16sHHIQQQIHHHHHH", ident, *fields),
            *(struct.pack("<IIQQQQQQ", kind, flags, at, at, at, n, n, unit) for kind, flags, at, n, unit in segments),
            *(struct.pack("<qQ", *entry) for entry in dynamic),
            *symbols,
            CODE[machine],
            table,
            names,
        ]
    )
