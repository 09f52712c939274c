"""How far assembly reaches whose symbol says no size, told from its code."""

from __future__ import annotations

from typing import Final

from forklore.abi.arch import Arch
from forklore.elf.image.image import ElfImage

_LONGEST: Final = 1 << 12
"""Bytes of one function that are walked over."""
_JUMPS: Final = (0xE9, 0xEB)
_BRANCHES: Final = frozenset([*range(0x70, 0x80), *range(0x0F80, 0x0F90), *range(0xE0, 0xE4)])
_RETURNS: Final = (0xC2, 0xC3, 0xF4)
"""And hlt, which a user program does not survive."""
_INDIRECT: Final = 0xFF


def code_ends(image: ElfImage, start: int, address: int) -> bool:
    """Whether the function that begins at ``start`` comes to an end before ``address``.

    In a stripped library the next symbol can be far, and between them are functions that are not exported: ``__clone``
    behind ``memset`` in musl's. Code ends at a return or a jump that nothing before it leads past. Told of x86 alone;
    elsewhere, and where an instruction is not known, it goes on.
    """
    place = image.offset_of(start)
    if place is None or image.arch not in (Arch.X86_64, Arch.X32, Arch.I386) or not 0 < address - start <= _LONGEST:
        return False
    from forklore.elf.cfi.x86_code import LONGEST, decode

    code = image.read(place, address - start + LONGEST)
    at = furthest = 0
    while at < address - start:
        one = decode(code, at, long_mode=image.arch is not Arch.I386)
        if one is None:
            return False
        at += one.length
        jumps = one.opcode in _JUMPS
        if jumps or one.opcode in _BRANCHES:
            target = at + one.immediate
            furthest = max(furthest, target if target <= _LONGEST else 0)  # further is another function
        leaves = jumps or one.opcode in _RETURNS or (one.opcode == _INDIRECT and one.reg & 7 in (4, 5))
        if leaves and furthest < at <= address - start:
            return True
    return False
