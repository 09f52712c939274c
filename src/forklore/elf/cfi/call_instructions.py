"""Which function a call enters, by the instruction before the return address that it left.

A function whose last act is to call another may jump there, and then it is on no stack: its caller's call still names
it. A call through a procedure linkage table is followed to where the table leads, which is known by the time that the
function runs. Where the address comes out of a register, the instruction does not tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from forklore.abi.arch import X86, Arch
from forklore.abi.patterns import regex
from forklore.elf.cfi.x86_code import call_before

Fetch = Callable[[int, int], bytes | None]
"""``fetch(address, size)``: memory at a run-time address, or None."""

_MASK: Final = (1 << 64) - 1
_LONGEST_X86: Final = 7
_BTI: Final = 0xD503245F
_X86_JUMP: Final = regex(rb"(?=(?:\xe9|\x0f[\x80-\x8f])(.{4}))", re.DOTALL)
_LARGEST: Final = 1 << 14
"""Bytes of a function that is looked through."""


def called_at(arch: Arch, fetch: Fetch, returns: int) -> int | None:
    """The run-time address of the function that the call before ``returns`` enters; None where that does not tell."""
    if arch in X86:
        target = _x86_call(arch, fetch, returns)
    elif arch is Arch.AARCH64:
        target = _aarch64_call(fetch, returns)
    else:
        target = _riscv64_call(fetch, returns)
    return None if target is None else linked(arch, fetch, target & _MASK)


def jump_to(arch: Arch, fetch: Fetch, start: int, size: int, target: int) -> int | None:
    """The address behind the only jump in a function that leads to the run-time address ``target``; None without one.

    Found in the bytes of the function, of which x86 has some that are no instruction: one that leads just there by
    chance is not expected.
    """
    code = fetch(start, size)
    if code is None or not 0 < size <= _LARGEST:
        return None
    found = {behind for behind, entry in _jumps(arch, code, start) if linked(arch, fetch, entry & _MASK) == target}
    return found.pop() if len(found) == 1 else None


def _jumps(arch: Arch, code: bytes, start: int) -> Iterator[tuple[int, int]]:
    """The address behind each jump out of a function, and where it leads."""
    inside = range(start, start + len(code))
    if arch in X86:
        mask = 0xFFFFFFFF if arch is Arch.I386 else _MASK
        for found in _X86_JUMP.finditer(code):
            behind = start + found.end(1)
            yield behind, behind + int.from_bytes(found[1], "little", signed=True) & mask
        return
    for at in range(0, len(code) - 3, 4 if arch is Arch.AARCH64 else 2):
        word = int.from_bytes(code[at : at + 4], "little")
        entry = None
        if arch is Arch.AARCH64 and word >> 26 == 5:  # b
            entry = start + at + branch_distance(word)
        elif arch is Arch.RISCV64 and word & 0xFFF == 0x06F:  # jal zero
            entry = start + at + _jal(word)
        if entry is not None and entry not in inside:
            yield start + at + 4, entry


def linked(arch: Arch, fetch: Fetch, entry: int) -> int:
    """Where a jump through a table of addresses leads, if the code at ``entry`` is one; else ``entry``."""
    if arch in (Arch.X86_64, Arch.X32):
        slot = _x86_64_slot(fetch, entry)
    elif arch is Arch.AARCH64:
        slot = _aarch64_slot(fetch, entry)
    elif arch is Arch.RISCV64:
        slot = _riscv64_slot(fetch, entry)
    else:
        return entry  # i386 tables are reached by a register
    target = None if slot is None else fetch(slot & _MASK, 8)
    return entry if target is None else int.from_bytes(target, "little")


def _x86_call(arch: Arch, fetch: Fetch, returns: int) -> int | None:
    code = fetch(returns - _LONGEST_X86, _LONGEST_X86) or b""
    _, distance = call_before(code)
    if distance is not None:
        return returns + distance & (0xFFFFFFFF if arch is Arch.I386 else _MASK)
    if arch is Arch.I386 or code[-6:-4] != b"\xff\x15":  # call *slot(%rip), as -fno-plt makes it
        return None
    target = fetch(returns + int.from_bytes(code[-4:], "little", signed=True) & _MASK, 8)
    return None if target is None else int.from_bytes(target, "little")


def _x86_64_slot(fetch: Fetch, entry: int) -> int | None:
    code = fetch(entry, 16) or b""
    at = 4 if code[:4] == b"\xf3\x0f\x1e\xfa" else 0  # endbr64
    at += code[at : at + 1] == b"\xf2"  # bnd
    if code[at : at + 2] != b"\xff\x25":
        return None
    return entry + at + 6 + int.from_bytes(code[at + 2 : at + 6], "little", signed=True)


def _words(fetch: Fetch, address: int, count: int) -> list[int]:
    code = fetch(address, 4 * count) or bytes(4 * count)
    return [int.from_bytes(code[at : at + 4], "little") for at in range(0, 4 * count, 4)]


def _signed(value: int, bits: int) -> int:
    return value - ((value >> bits - 1 & 1) << bits)


def branch_distance(word: int) -> int:
    """Bytes from an aarch64 ``b`` or ``bl`` to where it leads."""
    return 4 * _signed(word & 0x03FFFFFF, 26)


def _aarch64_call(fetch: Fetch, returns: int) -> int | None:
    (word,) = _words(fetch, returns - 4, 1)
    return returns - 4 + branch_distance(word) if word >> 26 == 0x25 else None  # bl


def _aarch64_slot(fetch: Fetch, entry: int) -> int | None:
    words = _words(fetch, entry, 5)
    if words[0] == _BTI:
        entry, words = entry + 4, words[1:]
    adrp, load, add, branch = words[:4]
    # adrp x16, page; ldr x17, [x16, #n]; add x16, x16, #n; br x17 (or braa x17, x16 and the like)
    if adrp & 0x9F00001F != 0x90000010 or load & 0xFFC003FF != 0xF9400211 or add & 0xFFC003FF != 0x91000210:
        return None
    if branch & 0xFEFFFBE0 != 0xD61F0220 & 0xFEFFFBE0:
        return None
    page = _signed((adrp >> 5 & 0x7FFFF) << 2 | adrp >> 29 & 3, 21)
    return (entry & ~0xFFF) + (page << 12) + 8 * (load >> 10 & 0xFFF)


def _jal(word: int) -> int:
    return _signed(word >> 31 << 20 | word & 0xFF000 | (word >> 20 & 1) << 11 | word >> 20 & 0x7FE, 21)


def _riscv64_call(fetch: Fetch, returns: int) -> int | None:
    first, last = _words(fetch, returns - 8, 2)
    if last >> 16 & 0xF07F == 0x9002:  # may be c.jalr, of two bytes
        return None
    if last & 0xFFF == 0x0EF:  # jal ra
        return returns - 4 + _jal(last)
    if last & 0xFFFFF == 0x080E7 and first & 0xFFF == 0x097:  # auipc ra; jalr ra, n(ra)
        return returns - 8 + _signed(first & 0xFFFFF000, 32) + _signed(last >> 20, 12)
    return None


def _riscv64_slot(fetch: Fetch, entry: int) -> int | None:
    upper, load, jump = _words(fetch, entry, 3)
    # auipc t3; ld t3, n(t3); jalr t1, t3
    if upper & 0xFFF != 0xE17 or load & 0xFFFFF != 0xE3E03 or jump != 0x000E0367:
        return None
    return entry + _signed(upper & 0xFFFFF000, 32) + _signed(load >> 20, 12)
