"""The general registers of a stopped task, as PTRACE_GETREGSET(NT_PRSTATUS) gives them for each ABI."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cached_property
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from forklore.abi import _generated_registers as _registers
from forklore.abi.arch import Arch


class Layout(Struct, frozen=True, dict=True):
    """The register block of one ABI: ``names`` in memory order, each of ``word`` bytes, little-endian.

    ``nr``, ``args``, ``ret``, ``sp`` and ``ip`` name the registers of a system call's number, six arguments
    and result (syscall(2)), and the stack and instruction pointers. On aarch64 and riscv64 ``ret`` is the
    register of the first argument, which is therefore lost at the call's exit.
    """

    names: tuple[str, ...]
    word: int
    nr: str
    args: tuple[str, str, str, str, str, str]
    ret: str
    sp: str
    ip: str

    @cached_property
    def offsets(self) -> Mapping[str, int]:
        """Where each register begins, in bytes."""
        return {name: index * self.word for index, name in enumerate(self.names)}

    @cached_property
    def format(self) -> struct.Struct:
        """Unpacks a whole block into unsigned words in the order of ``names``."""
        return struct.Struct(f"<{len(self.names)}{'I' if self.word == 4 else 'Q'}")

    @property
    def size(self) -> int:
        """Bytes of the whole block, which is what the kernel sets ``iov_len`` to."""
        return len(self.names) * self.word

    def read(self, block: bytes | bytearray | memoryview, name: str) -> int:
        """One register, unsigned.

        Raises KeyError for a name that this ABI lacks, ValueError for a block that ends before the register.
        """
        offset = self.offsets[name]
        end = offset + self.word
        if len(block) < end:
            raise ValueError(
                f"register {name} lies at bytes {offset} to {end} of a block of {self.size}, but this block "
                f"has {len(block)}: it was read short, or the program is of another ABI"
            )
        return int.from_bytes(block[offset:end], "little")


# struct user_regs_struct (arch/x86/include/asm/user_64.h, not exported) is the exported pt_regs and these.
_X86_64_AFTER_PT_REGS: Final = ("fs_base", "gs_base", "ds", "es", "fs", "gs")

_X86_64: Final = Layout(
    names=(*(name for name, _, _ in _registers.X86_64), *_X86_64_AFTER_PT_REGS),
    word=8,
    nr="orig_rax",
    args=("rdi", "rsi", "rdx", "r10", "r8", "r9"),
    ret="rax",
    sp="rsp",
    ip="rip",
)

LAYOUTS: Final[Mapping[Arch, Layout]] = {
    Arch.X86_64: _X86_64,
    Arch.X32: _X86_64,
    Arch.I386: Layout(
        names=tuple(name for name, _, _ in _registers.I386),
        word=4,
        nr="orig_eax",
        args=("ebx", "ecx", "edx", "esi", "edi", "ebp"),
        ret="eax",
        sp="esp",
        ip="eip",
    ),
    Arch.AARCH64: Layout(
        names=tuple(name.replace("regs", "x") for name, _, _ in _registers.AARCH64),
        word=8,
        nr="x8",
        args=("x0", "x1", "x2", "x3", "x4", "x5"),
        ret="x0",
        sp="sp",
        ip="pc",
    ),
    Arch.RISCV64: Layout(
        names=tuple(name for name, _, _ in _registers.RISCV64),
        word=8,
        nr="a7",
        args=("a0", "a1", "a2", "a3", "a4", "a5"),
        ret="a0",
        sp="sp",
        ip="pc",
    ),
}
"""By the ABI of the *program*: i386's block is a 32-bit program's. A 64-bit program that makes an i386 call
(int 0x80) still has x86_64's, with the arguments in the low halves of rbx, rcx, rdx, rsi, rdi and rbp.
PTRACE_GETREGS gives a 64-bit tracer x86_64's of any program (arch/x86/kernel/ptrace.c). Go by the size."""


# COMPAT_ELF_NGREG words (arch/arm64/include/asm/compat.h).
AARCH32: Final = Layout(
    names=(*(f"r{number}" for number in range(13)), "sp", "lr", "pc", "cpsr", "orig_r0"),
    word=4,
    nr="r7",
    args=("r0", "r1", "r2", "r3", "r4", "r5"),
    ret="r0",
    sp="sp",
    ip="pc",
)
RISCV32: Final = replace(LAYOUTS[Arch.RISCV64], word=4)  # struct compat_user_regs_struct
FOREIGN: Final = (AARCH32, RISCV32)
"""Of 32-bit programs on aarch64 and riscv64: their registers can be told, but their calls are none that forklore
decodes."""


def layout_of_size(size: int) -> Layout | None:
    """The layout of a block of so many bytes, or None. Each ABI has its own size; x32 has x86_64's."""
    return next((layout for layout in (*LAYOUTS.values(), *FOREIGN) if layout.size == size), None)
