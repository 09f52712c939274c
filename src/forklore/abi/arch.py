"""The instruction-set ABIs that forklore decodes, as the kernel's audit code tells them apart."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

_64BIT: Final = 0x80000000
_LITTLE_ENDIAN: Final = 0x40000000

X32_SYSCALL_BIT: Final = 0x40000000
"""Set in the number of a system call made through the x32 ABI (arch/x86/include/uapi/asm/unistd.h)."""


class Arch(StrEnum):
    """A system-call ABI. One program can use several: each stop says which one its call came through."""

    X86_64 = "x86_64"
    I386 = "i386"
    X32 = "x32"
    AARCH64 = "aarch64"
    RISCV64 = "riscv64"

    @property
    def audit(self) -> int:
        """AUDIT_ARCH_* of include/uapi/linux/audit.h; x32 shares x86_64's and differs in the number's bit 30."""
        return _AUDIT[self]

    @property
    def word(self) -> int:
        """Size of a register, and so of a system-call argument, in bytes."""
        return 4 if self is Arch.I386 else 8

    @property
    def pointer(self) -> int:
        """Size of a pointer in memory, in bytes (x32 has 64-bit registers and 32-bit pointers)."""
        return 4 if self in (Arch.I386, Arch.X32) else 8


X86: Final = (Arch.X86_64, Arch.X32, Arch.I386)
"""What an x86_64 kernel can run."""
CLONE_BACKWARDS: Final = frozenset({Arch.I386, Arch.AARCH64, Arch.RISCV64})
"""Where clone(2) takes tls before child_tid (CONFIG_CLONE_BACKWARDS)."""

_AUDIT: Final = {
    Arch.X86_64: 62 | _64BIT | _LITTLE_ENDIAN,
    Arch.I386: 3 | _LITTLE_ENDIAN,
    Arch.X32: 62 | _64BIT | _LITTLE_ENDIAN,
    Arch.AARCH64: 183 | _64BIT | _LITTLE_ENDIAN,
    Arch.RISCV64: 243 | _64BIT | _LITTLE_ENDIAN,
}
_BY_AUDIT: Final = {Arch.X86_64.audit: Arch.X86_64, Arch.I386.audit: Arch.I386,
                    Arch.AARCH64.audit: Arch.AARCH64, Arch.RISCV64.audit: Arch.RISCV64}


def arch_of(audit: int, nr: int) -> Arch | None:
    """The ABI of a call, from the audit arch of its stop and its number; None for one forklore does not know.

    A number of -1 (no call) is taken for the 64-bit ABI.
    """
    arch = _BY_AUDIT.get(audit)
    if arch is Arch.X86_64 and nr >= 0 and nr & X32_SYSCALL_BIT:
        return Arch.X32
    return arch
