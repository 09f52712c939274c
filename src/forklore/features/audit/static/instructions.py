"""System-call instructions in machine code, and the number that each is made with, where the code beside it tells.

The bytes of the instruction are searched for, and a disassembler decides whether an instruction begins there: x86 code
read from a wrong place falls into step after a few instructions, so several starts before the place are tried and most
of them have to arrive. The number is what the last instruction before it puts into its register; a jump in between that
comes from elsewhere is not seen.
"""

from __future__ import annotations

import importlib
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from msgspec import Struct

from forklore.abi import syscalls
from forklore.abi.arch import X32_SYSCALL_BIT, Arch
from forklore.abi.units import Address, Unavailable
from forklore.version import extra

LIMIT: Final = 20_000
"""Places of one file that may be instructions: a large program has some hundreds, and some thousands of other places
with the same bytes."""

_BACK: Final = 64
"""Bytes of code before an instruction that are looked at."""
_STARTS: Final = 15
"""As many starts as the longest x86 instruction has bytes."""

_BYTES: Final = {
    Arch.X86_64: re.compile(rb"\x0f\x05"),
    Arch.X32: re.compile(rb"\x0f\x05"),
    # int $0x80, sysenter, and the C library's call to the vdso through its thread control block
    Arch.I386: re.compile(rb"\xcd\x80|\x0f\x34|\x65\xff\x15\x10\x00\x00\x00"),
    Arch.AARCH64: re.compile(rb"\x01\x00\x00\xd4"),
    Arch.RISCV64: re.compile(rb"\x73\x00\x00\x00"),
}
_REGISTERS: Final = {
    Arch.X86_64: ("eax", "rax"), Arch.X32: ("eax", "rax"), Arch.I386: ("eax",), Arch.AARCH64: ("x8", "w8"),
    Arch.RISCV64: ("a7",),
}  # fmt: skip
_SET: Final = frozenset({"mov", "movz", "movabs", "li", "c.li", "addi"})
_READS_ONLY: Final = frozenset({
    "cmp", "test", "push", "str", "stp", "cmn", "tst", "cbz", "cbnz", "sd", "sw", "c.sdsp",
})  # fmt: skip
_LEAVES: Final = frozenset({
    "ret", "jmp", "b", "br", "call", "bl", "blr", "c.j", "c.jr", "j", "jr", "jal", "jalr", "c.jalr",
})  # fmt: skip
"""After these the code before is not what runs before."""


class CallInstruction(Struct, frozen=True):
    """A system-call instruction. ``number`` None: what reaches it cannot be told from the code before it."""

    address: Address
    number: int | None
    name: str | None
    function: str | None


def sites(
    arch: Arch, code: Sequence[tuple[int, bytes]], functions: Sequence[tuple[int, int, str]]
) -> list[CallInstruction] | Unavailable:
    """Those of ``code`` (address and bytes), in order. ``functions``: start, size and name, sorted."""
    disassembler = _disassembler(arch)
    if disassembler is None:
        return Unavailable(0, f"the disassembler is not installed: {extra('audit')}")
    if sum(1 for _, raw in code for _ in islice(_BYTES[arch].finditer(raw), LIMIT + 1)) > LIMIT:
        return Unavailable(0, f"it holds the bytes of such an instruction at more than {LIMIT} places")
    found: list[CallInstruction] = []
    starts = [start for start, _, _ in functions]
    for base, raw in code:
        decoder = _Decoder(raw, disassembler)
        for at in _places(arch, raw, decoder):
            number = _number(arch, at, decoder)
            address = Address(base + at)
            name = None if number is None else _name(arch, number)
            found.append(CallInstruction(address, number, name, _covering(functions, starts, address)))
    return found


def _disassembler(arch: Arch) -> Any:  # noqa: ANN401 - the disassembler has no types
    try:
        capstone = importlib.import_module("capstone")
    except ImportError:
        return None
    modes = {
        Arch.X86_64: (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
        Arch.X32: (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
        Arch.I386: (capstone.CS_ARCH_X86, capstone.CS_MODE_32),
        Arch.AARCH64: (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
        Arch.RISCV64: (capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC),
    }
    return capstone.Cs(*modes[arch])


class _Decoder:
    """Reads instructions of some code, each once: the ways that lead to a place soon fall into step."""

    def __init__(self, raw: bytes, disassembler: Any) -> None:  # noqa: ANN401
        self._raw = raw
        self._disassembler = disassembler
        self._known: dict[int, tuple[int, str, str] | None] = {}

    def read(self, start: int, at: int) -> Iterator[tuple[int, str, str]]:
        """From start to at, where a byte that is no instruction (padding, data) is stepped over."""
        while start <= at:
            found = self._at(start)
            if found is None:
                start += 1
                continue
            size, name, operands = found
            yield start, name, operands
            start += size

    def _at(self, start: int) -> tuple[int, str, str] | None:
        if start not in self._known:
            if len(self._known) > 1 << 16:
                self._known.clear()
            decoded = self._disassembler.disasm_lite(self._raw[start : start + 16], start, 1)
            self._known[start] = next(((size, name, operands) for _, size, name, operands in decoded), None)
        return self._known[start]


def _places(arch: Arch, raw: bytes, decoder: _Decoder) -> Iterator[int]:
    step = {Arch.AARCH64: 4, Arch.RISCV64: 2}.get(arch)
    for match in _BYTES[arch].finditer(raw):
        at = match.start()
        if step is not None:
            if at % step == 0:
                yield at
            continue
        tries = [start for start in range(at - _BACK, at - _BACK + _STARTS) if start >= 0] or [0]
        arrived = sum(any(where == at for where, *_ in decoder.read(start, at)) for start in tries)
        if 2 * arrived > len(tries):
            yield at


def _number(arch: Arch, at: int, decoder: _Decoder) -> int | None:
    registers = _REGISTERS[arch]
    window = list(decoder.read(max(0, at - (_BACK if arch is not Arch.RISCV64 else 32)), at))
    low = None
    for where, name, operands in reversed(window):
        if where >= at:
            continue
        if name in _LEAVES:
            return None
        target, _, source = operands.partition(", ")
        if target == "al" and name == "mov" and source.startswith(("0x", *"0123456789")):
            low = int(source, 0)  # of a register that was cleared before
            continue
        if target not in registers or name in _READS_ONLY:
            continue
        if name == "xor" and source == target:
            return low or 0
        if low is not None:
            return None
        value = source.rpartition(", ")[2] if name == "addi" and "zero" in source else source
        if name in _SET and (literal := re.fullmatch(r"#?(-?(?:0x[0-9a-f]+|\d+))", value)):
            return int(literal[1], 0) & 0xFFFF_FFFF
        return None
    return None


def _name(arch: Arch, number: int) -> str | None:
    if arch is Arch.X86_64 and number & X32_SYSCALL_BIT:
        return syscalls.name(Arch.X32, number)
    return syscalls.name(arch, number)


def _covering(functions: Sequence[tuple[int, int, str]], starts: Sequence[int], address: int) -> str | None:
    index = bisect_right(starts, address) - 1
    if index < 0:
        return None
    start, size, name = functions[index]
    return name if address < start + size else None
