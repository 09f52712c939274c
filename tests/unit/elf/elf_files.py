"""ELF files for tests: compiled where a real one is needed, written byte by byte where a broken or huge one is."""

import struct
from collections.abc import Sequence
from pathlib import Path

from oracle_tools import run
from this_machine import LIBRARIES

LIBC = LIBRARIES / "libc.so.6"


def compiled(directory: Path, source: str, *options: str, name: str = "program", compiler: str = "gcc") -> Path:
    """A program from C (or, with g++, C++) source."""
    code = directory / f"{name}.{'cc' if compiler == 'g++' else 'c'}"
    code.write_text(source)
    program = directory / name
    run(compiler, "-o", program, code, *options)
    return program


def written(symbols: Sequence[tuple[bytes, int, int, int]], *, bits: int = 64, machine: int = 62) -> bytes:
    """A file with one executable segment at 0x400000 and a .symtab of (name, st_info, value, size), in section 1."""
    strings = b"\0" + b"".join(name + b"\0" for name, _, _, _ in symbols)
    places, at = [], 1
    for name, _, _, _ in symbols:
        places.append(at)
        at += len(name) + 1
    wide = bits == 64
    header, segment, section = (64, 56, 64) if wide else (52, 32, 40)
    table = b"".join(
        struct.pack("<IBBHQQ", place, info, 0, 1, value, size) if wide
        else struct.pack("<IIIBBH", place, value, size, info, 0, 1)
        for place, (_, info, value, size) in zip(places, symbols, strict=True))
    names = b"\0.text\0.symtab\0.strtab\0.shstrtab\0"
    body = header + segment
    symtab, strtab = body, body + len(table)
    shstrtab = strtab + len(strings)
    sections_at = shstrtab + len(names)
    reach = 0x40000000
    load = (struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0, sections_at, reach, 4096) if wide
            else struct.pack("<IIIIIIII", 1, 0, 0x400000, 0, sections_at, reach, 5, 4096))
    layout = "<IIQQQQIIQQ" if wide else "<10I"
    headers = b"".join(struct.pack(layout, *fields) for fields in (
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (1, 8, 6, 0x400000, 0, reach, 0, 0, 16, 0),
        (7, 2, 0, 0, symtab, len(table), 3, 0, 8, len(table)),
        (15, 3, 0, 0, strtab, len(strings), 0, 0, 1, 0),
        (23, 3, 0, 0, shstrtab, len(names), 0, 0, 1, 0)))
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    first = struct.pack("<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH", 2, machine, 1, 0, header, sections_at, 0,
                        header, segment, 1, section, 5, 4)
    return ident + first + load + table + strings + names + headers
