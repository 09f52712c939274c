"""Writes call-frame information, so that a test says what is in it."""

from __future__ import annotations

import struct

from forklore.abi.arch import Arch
from forklore.elf.cfi.frame_table import Content, FrameTable, Section


def uleb(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while True:
        out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


def sleb(value: int) -> bytes:
    """Signed LEB128."""
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value & 0x7F])


def _entry(content: bytes) -> bytes:
    content += bytes(-len(content) % 4)
    return struct.pack("<I", len(content)) + content


START_X86 = b"\x0c\x07\x08\x90\x01"  # DW_CFA_def_cfa rsp+8, DW_CFA_offset rip at cfa-8


def cie(
    augmentation: bytes = b"zR",
    extra: bytes = b"\x1b",
    initial: bytes = START_X86,
    *,
    column: int = 16,
    version: int = 1,
    identity: int = 0,
    code: int = 1,
) -> bytes:
    """A CIE with a data factor of -8. ``extra`` is the augmentation's data, by default sdata4, relative to itself."""
    head = struct.pack("<IB", identity, version) + augmentation + b"\0"
    if version == 4:
        head += b"\x08\x00"
    head += uleb(code) + sleb(-8) + uleb(column)
    if augmentation.startswith(b"z"):
        head += uleb(len(extra)) + extra
    return _entry(head + initial)


def fde(at: int, cie_at: int, pointers: bytes, program: bytes, *, augmented: bool = True, debug: bool = False) -> bytes:
    """An FDE that lies at ``at`` in its section; ``pointers`` are its encoded location and range."""
    pointer = cie_at if debug else at + 4 - cie_at
    return _entry(struct.pack("<I", pointer) + pointers + (b"\0" if augmented else b"") + program)


SECTION = 0x2000
"""The address that :func:`eh_frame_table` puts .eh_frame at."""


def eh_frame(functions: list[tuple[int, int, bytes]], head: bytes | None = None) -> tuple[bytes, list[int]]:
    """A section at :data:`SECTION`: start, size and program of each function; and where each FDE is."""
    content = cie() if head is None else head
    places = []
    for start, size, program in functions:
        places.append(len(content))
        place = SECTION + len(content) + 8
        content += fde(len(content), 0, struct.pack("<ii", start - place, size), program)
    return content + bytes(4), places


def eh_frame_table(
    functions: list[tuple[int, int, bytes]], *, header: bool = True, arch: Arch = Arch.X86_64, head: bytes | None = None
) -> FrameTable:
    """A table over such a section, with a search table in front of it or without."""
    content, places = eh_frame(functions, head)
    search = search_table([start for start, *_ in functions], places) if header else b""
    front = (0, 0x1000, len(search)) if header else None
    return table(search + content, arch=arch, eh_frame_hdr=front, eh_frame=(len(search), SECTION, len(content)))


def search_table(starts: list[int], places: list[int]) -> bytes:
    """An .eh_frame_hdr at 0x1000."""
    rows = sorted((start - 0x1000, SECTION + place - 0x1000) for start, place in zip(starts, places, strict=True))
    head = b"\x01\x1b\x03\x3b" + struct.pack("<iI", SECTION - 0x1004, len(rows))
    return head + b"".join(struct.pack("<ii", *row) for row in rows)


def table(data: Content, *, bits: int = 64, arch: Arch = Arch.X86_64, **sections: Section | None) -> FrameTable:
    """A FrameTable; sections that are not named are absent."""
    where = dict.fromkeys(("eh_frame_hdr", "eh_frame", "debug_frame")) | sections
    return FrameTable(data, bits=bits, arch=arch, **where)
