"""A shared library of a few small functions, made in memory: a 64-bit ELF file (elf.h), little end first."""

import struct

MACHINES = {"x86_64": 62, "aarch64": 183}
SHARED_OBJECT, LOAD, DYNAMIC, STACK, READ_WRITE = 3, 1, 2, 0x6474E551, 6
NEEDED, HASH, STRINGS, SYMBOLS, STRINGS_BYTES, SYMBOL_BYTES, NAME, END = 1, 4, 5, 6, 10, 11, 14, 0
HEADER, PROGRAM_HEADER, SYMBOL, ENTRY, PAGE, ALL, FUNCTION = 64, 56, 24, 16, 4096, 7, 0x12


def shared_library(name: str, machine: int, functions: dict[str, bytes], needed: str = "") -> bytes:
    """The library called `name` (its SONAME, by which the loader finds it), with the machine code of each function.

    `needed` is the path of a library that is loaded with it: what is asked of this one, and not in it, is looked up there.
    """
    texts = ["", name, needed, *functions]
    names = b"".join(text.encode() + b"\0" for text in texts)
    at = [sum(len(text.encode()) + 1 for text in texts[:n]) for n in range(len(texts))]
    code = {name: body + bytes(-len(body) % 8) for name, body in functions.items()}
    count = len(functions) + 1  # the first symbol stands for none
    # One bucket: each symbol names the next to look at, the last none.
    table = struct.pack(f"<{count + 3}I", 1, count, min(1, len(functions)), 0, *range(2, count), *[0] * (count > 1))
    dynamic_at, entries = HEADER + 3 * PROGRAM_HEADER, 7 + bool(needed)
    symbols_at = dynamic_at + ENTRY * entries
    code_at = symbols_at + SYMBOL * count
    table_at = code_at + sum(map(len, code.values()))
    names_at = table_at + len(table)
    size = names_at + len(names)
    dynamic = [
        (NAME, at[1]), *[(NEEDED, at[2])] * bool(needed), (HASH, table_at), (STRINGS, names_at), (SYMBOLS, symbols_at),
        (STRINGS_BYTES, len(names)), (SYMBOL_BYTES, SYMBOL), (END, 0),
    ]  # fmt: skip
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)  # 64 bit, little end first, version 1
    fields = (SHARED_OBJECT, machine, 1, 0, HEADER, 0, 0, HEADER, PROGRAM_HEADER, 3, 64, 0, 0)
    # Writable: the loader adds the address at which it put the library to the addresses in the dynamic section.
    segments = [
        (LOAD, ALL, 0, size, PAGE),
        (DYNAMIC, READ_WRITE, dynamic_at, ENTRY * entries, 8),
        (STACK, READ_WRITE, 0, 0, 16),
    ]
    symbols, body_at = [bytes(SYMBOL)], code_at
    for name_at, body in zip(at[3:], code.values(), strict=True):
        symbols.append(struct.pack("<IBBHQQ", name_at, FUNCTION, 0, 1, body_at, len(body)))
        body_at += len(body)
    return b"".join(
        [
            struct.pack("<16sHHIQQQIHHHHHH", ident, *fields),
            *(struct.pack("<IIQQQQQQ", kind, flags, at, at, at, n, n, unit) for kind, flags, at, n, unit in segments),
            *(struct.pack("<qQ", *entry) for entry in dynamic),
            *symbols,
            *code.values(),
            table,
            names,
        ]
    )
