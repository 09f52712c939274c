"""How DWARF numbers the registers of each ABI (the psABI of x86-64 and i386, AAELF64, the RISC-V psABI)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Final

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.abi.registers import LAYOUTS


class Numbers(Struct, frozen=True, kw_only=True):
    """The DWARF numbers of one ABI. ``names`` are those of :mod:`forklore.abi.registers`, by number."""

    names: tuple[str | None, ...]
    word: int
    """Bytes of a stack slot."""
    pc: int
    sp: int
    fp: int
    """The register that code with frame pointers keeps them in."""
    link: int | None = None
    """The register that a call leaves the return address in; None: it is pushed."""
    result: int
    """The register of a system call's result."""
    mask: int
    """Of an address: all of it, but on aarch64 without the bits that pointer authentication may have set."""


_X86_64: Final = Numbers(
    names=(
        "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
        "rip",
    ),
    word=8, pc=16, sp=7, fp=6, result=0, mask=(1 << 64) - 1,
)  # fmt: skip

NUMBERS: Final[Mapping[Arch, Numbers]] = {
    Arch.X86_64: _X86_64,
    Arch.X32: _X86_64,
    Arch.I386: Numbers(
        names=("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip"),
        word=4, pc=8, sp=4, fp=5, result=0, mask=(1 << 32) - 1,
    ),
    # Signed return addresses have their code in the bits above those of the address space, which are 48 unless a
    # program asks mmap for more (Documentation/arch/arm64/pointer-authentication.rst, memory.rst).
    Arch.AARCH64: Numbers(
        names=(*(f"x{number}" for number in range(31)), "sp", "pc"),
        word=8, pc=32, sp=31, fp=29, link=30, result=0, mask=(1 << 48) - 1,
    ),
    # 64 is the psABI's Alternate Frame Return Column, the pc of an interrupted frame; x0 is always 0.
    Arch.RISCV64: Numbers(
        names=(
            "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6",
            "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
            *(None,) * 32, "pc",
        ),
        word=8, pc=64, sp=2, fp=8, link=1, result=10, mask=(1 << 64) - 1,
    ),
}  # fmt: skip
"""By the ABI of the program, as the layouts of :data:`forklore.abi.registers.LAYOUTS` are."""


def dwarf_block(arch: Arch, block: bytes) -> dict[int, int]:
    """The register block of a stopped task by DWARF number; registers without a number are left out.

    Raises struct.error for a block of another ABI: its size does not fit.
    """
    layout, numbers, pick = _PICKS[arch]
    return dict(zip(numbers, pick(layout.unpack(block)), strict=True))


def _places(arch: Arch) -> dict[int, int]:
    places = {name: place for place, name in enumerate(LAYOUTS[arch].names)}
    return {number: places[name] for number, name in enumerate(NUMBERS[arch].names) if name and name in places}


PLACES: Final[Mapping[Arch, Mapping[int, int]]] = {arch: _places(arch) for arch in NUMBERS}
"""Where in a register block a DWARF number stands, counted in registers."""


def _pick(arch: Arch) -> tuple[struct.Struct, tuple[int, ...], itemgetter[Any]]:
    places = PLACES[arch]
    return LAYOUTS[arch].format, tuple(places), itemgetter(*places.values())


_PICKS: Final = {arch: _pick(arch) for arch in NUMBERS}
