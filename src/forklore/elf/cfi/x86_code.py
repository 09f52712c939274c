"""As much of the x86 instruction set as it takes to walk over code (Intel SDM, volume 2, appendix A)."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

LONGEST: Final = 15
"""Bytes of an instruction."""

_PREFIXES: Final = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\xf0\xf2\xf3")
_TWO: Final = 0x0F00
"""Added to the second byte of a two-byte opcode."""
_OTHER: Final = 0x1_0000
"""The opcode given to instructions of the vector maps: none of those touches the stack pointer."""

_WITH_MODRM: Final = frozenset(
    [op for op in range(0x40) if op & 7 < 4]
    + [0x63, 0x69, 0x6B, *range(0x80, 0x90), 0xC0, 0xC1, 0xC6, 0xC7, *range(0xD0, 0xD4), *range(0xD8, 0xE0)]
    + [0xF6, 0xF7, 0xFE, 0xFF]
)
_TWO_WITHOUT_MODRM: Final = frozenset(
    (*range(0x05, 0x0A), 0x0B, *range(0x30, 0x38), 0x77, *range(0x80, 0x90), *range(0xA0, 0xA3), *range(0xA8, 0xAB),
     *range(0xC8, 0xD0))
)
_BYTE: Final = frozenset(
    [op for op in range(0x40) if op & 7 == 4]
    + [0x6A, 0x6B, *range(0x70, 0x80), 0x80, 0x82, 0x83, 0xA8, *range(0xB0, 0xB8), 0xC0, 0xC1, 0xC6, 0xCD]
    + [*range(0xE0, 0xE8), 0xEB]
)
_FULL: Final = frozenset([op for op in range(0x40) if op & 7 == 5] + [0x68, 0x69, 0x81, 0xA9, 0xC7])
_TWO_BYTE: Final = frozenset([*range(0x70, 0x74), 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6])


class Instruction(Struct, frozen=True):
    """One instruction: what decides where it puts the stack pointer."""

    opcode: int
    """Without prefixes; 0x0f.. for a two-byte one; more than two bytes: a vector instruction."""
    length: int
    immediate: int = 0
    mod: int = 0
    reg: int = 0
    """With the bit of a REX prefix, as ``rm``: 4 is the stack pointer, 5 the frame pointer."""
    rm: int = 0
    """The register, or with ``mod`` < 3 the base register of the memory operand; 16: another operand."""
    displacement: int = 0


def decode(code: bytes, at: int, *, long_mode: bool) -> Instruction | None:
    """The instruction at ``code[at]``; None where it is cut off or not known here."""
    try:
        return _decode(code, at, long_mode=long_mode)
    except IndexError:
        return None


def _decode(code: bytes, start: int, *, long_mode: bool) -> Instruction | None:
    at, short, rex = start, False, 0
    while code[at] in _PREFIXES:
        short |= code[at] == 0x66
        at += 1
    if long_mode and code[at] & 0xF0 == 0x40:
        rex = code[at]
        at += 1
    opcode = code[at]
    at += 1
    if opcode in (0xC4, 0xC5) and (long_mode or code[at] >= 0xC0):
        return _vector(code, start, at, opcode)
    if opcode == 0x0F:
        opcode = code[at]
        at += 1
        if opcode in (0x38, 0x3A):
            return _finish(code, start, at + 1, _OTHER, rex, modrm=True, size=int(opcode == 0x3A))
        size = 1 if opcode in _TWO_BYTE else 4 if 0x80 <= opcode < 0x90 else 0
        return _finish(code, start, at, _TWO + opcode, rex, modrm=opcode not in _TWO_WITHOUT_MODRM, size=size)
    full = 2 if short and not rex & 8 else 4
    size = 1 if opcode in _BYTE else full if opcode in _FULL else 0
    if opcode in (0xE8, 0xE9):
        size = 4
    elif 0xB8 <= opcode < 0xC0:
        size = 8 if rex & 8 else full
    elif opcode == 0xC2:
        size = 2
    elif 0xA0 <= opcode < 0xA4:
        size = 8 if long_mode else 4
    elif opcode in (0xF6, 0xF7) and code[at] & 0x38 <= 0x08:
        size = 1 if opcode == 0xF6 else full
    elif opcode in (0x62, 0x67, 0xC8, 0xEA, 0x9A):  # EVEX or bound, other address sizes, enter, far calls
        return None
    return _finish(code, start, at, opcode, rex, modrm=opcode in _WITH_MODRM, size=size)


def _vector(code: bytes, start: int, at: int, opcode: int) -> Instruction | None:
    table = 1 if opcode == 0xC5 else code[at] & 0x1F
    at += 1 if opcode == 0xC5 else 2
    number = code[at]
    size = int(table == 3 or (table == 1 and number in _TWO_BYTE))
    return _finish(code, start, at + 1, _OTHER, 0, modrm=not (table == 1 and number == 0x77), size=size)


def _finish(
    code: bytes, start: int, at: int, opcode: int, rex: int, *, modrm: bool, size: int
) -> Instruction | None:
    mod = reg = rm = displacement = 0
    if modrm:
        mod, reg, rm = code[at] >> 6, code[at] >> 3 & 7 | (rex & 4) << 1, code[at] & 7
        at += 1
        far = 4 if mod == 2 else int(mod == 1)
        if mod < 3 and rm == 4:
            base, index = code[at] & 7, code[at] >> 3 & 7
            at += 1
            if mod == 0 and base == 5:
                far, base = 4, 16
            rm = base if index == 4 and not rex & 2 else 16
        elif mod == 0 and rm == 5:
            far, rm = 4, 16
        if rm < 8:
            rm |= (rex & 1) << 3
        displacement = int.from_bytes(code[at : at + far], "little", signed=True)
        at += far
    else:
        rm = (code[at - 1] & 7) | (rex & 1) << 3  # push and pop have their register there
    if at + size > len(code):
        return None
    immediate = int.from_bytes(code[at : at + size], "little", signed=True)
    return Instruction(opcode, at + size - start, immediate, mod, reg, rm, displacement)


def call_before(code: bytes) -> tuple[bool, int | None]:
    """Whether ``code`` ends in a call instruction, and how far behind its end a direct one leads."""
    if len(code) >= 5 and code[-5] == 0xE8:
        return True, int.from_bytes(code[-4:], "little", signed=True)
    for length, mods in ((2, (0, 3)), (3, (0, 1)), (4, (1,)), (6, (0, 2)), (7, (0, 2))):
        if len(code) >= length and code[-length] == 0xFF:
            modrm = code[1 - length]
            if modrm >> 3 & 7 == 2 and modrm >> 6 in mods:
                return True, None
    return False, None
