"""Signal frames of code whose trampoline has no call-frame rules: musl's, old C libraries', aarch64's vdso.

A trampoline is known by its two instructions: the number of (rt_)sigreturn, and the system call.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from forklore.abi.arch import Arch


class _Trampoline(Struct, frozen=True):
    code: bytes
    offset: int
    """Of the saved registers, from the stack pointer at the trampoline."""
    numbers: tuple[int, ...]
    """DWARF numbers of the registers, in the order of struct sigcontext; -1 for what is none of them."""
    word: int


_X86_64: Final = (8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16)
_I386: Final = (-1, -1, -1, -1, 7, 6, 5, 4, 3, 1, 2, 0, -1, -1, 8)
_AARCH64: Final = tuple(range(33))

_TRAMPOLINES: Final[dict[Arch, tuple[_Trampoline, ...]]] = {
    # arch/x86/include/asm/sigframe.h: struct rt_sigframe, without its return address; uc_mcontext is at 40.
    Arch.X86_64: (
        _Trampoline(bytes.fromhex("48c7c00f0000000f05"), 40, _X86_64, 8),
        _Trampoline(bytes.fromhex("b80f0000000f05"), 40, _X86_64, 8),
    ),
    # sigreturn has the signal's number on the stack, which its trampoline pops; rt_sigreturn number, siginfo and
    # ucontext, whose addresses come first: 4 + 4 + 4 + 128 + 20.
    Arch.I386: (
        _Trampoline(bytes.fromhex("58b877000000cd80"), 4, _I386, 4),
        _Trampoline(bytes.fromhex("b8ad000000cd80"), 160, _I386, 4),
    ),
    # arch/arm64/kernel/signal.c: struct rt_sigframe: siginfo of 128 bytes, then ucontext with uc_mcontext at 176,
    # the registers behind its fault_address.
    Arch.AARCH64: (_Trampoline(bytes.fromhex("681180d2010000d4"), 128 + 176 + 8, _AARCH64, 8),),
}


def interrupted(
    arch: Arch, read: Callable[[int, int], bytes | None], pc: int, sp: int
) -> dict[int, int] | None:
    """The registers that the signal interrupted, if the code at ``pc`` is a trampoline and its frame can be read."""
    for trampoline in _TRAMPOLINES.get(arch, ()):
        if read(pc, len(trampoline.code)) != trampoline.code:
            continue
        numbers, word = trampoline.numbers, trampoline.word
        got = read(sp + trampoline.offset, len(numbers) * word)
        if got is None:
            return None
        values = struct.unpack(f"<{len(numbers)}{'Q' if word == 8 else 'I'}", got)
        return {number: value for number, value in zip(numbers, values, strict=True) if number >= 0}
    return None
