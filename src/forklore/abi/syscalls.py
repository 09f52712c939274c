"""System-call names and numbers of every ABI. A table is imported when its ABI is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final, assert_never

from forklore.abi.arch import Arch

CREATIONS: Final = ("fork", "vfork", "clone", "clone3")
"""The calls that make a task."""


def number(arch: Arch, name: str) -> int | None:
    """The number of a call (x32's with X32_SYSCALL_BIT set); None where the ABI has no such call."""
    return numbers(arch).get(name)


def name(arch: Arch, nr: int) -> str | None:
    """The name of a call (asm/unistd.h, without ``__NR_``); None for a number that has none."""
    return _names(arch).get(nr)


@cache
def numbers(arch: Arch) -> Mapping[str, int]:
    """Every call of an ABI, by name, in the order of its numbers."""
    match arch:
        case Arch.X86_64:
            from forklore.abi._generated_syscalls_x86_64 import NUMBERS
        case Arch.I386:
            from forklore.abi._generated_syscalls_i386 import NUMBERS
        case Arch.X32:
            from forklore.abi._generated_syscalls_x32 import NUMBERS
        case Arch.AARCH64:
            from forklore.abi._generated_syscalls_aarch64 import NUMBERS
        case Arch.RISCV64:
            from forklore.abi._generated_syscalls_riscv64 import NUMBERS
        case _:
            assert_never(arch)
    return NUMBERS


@cache
def _names(arch: Arch) -> Mapping[int, str]:
    return {nr: call for call, nr in numbers(arch).items()}
