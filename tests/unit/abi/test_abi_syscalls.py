"""System-call tables: numbers that everybody knows, the inverse, and another project's tables."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from forklore.abi import syscalls
from forklore.abi.arch import X32_SYSCALL_BIT, Arch, arch_of

# From the table in syscalls(2) and the kernel's arch/*/entry/syscalls.
CALLS = ("fork", "vfork", "clone", "clone3", "execve", "unshare", "setns", "kcmp", "close_range")
BIT = X32_SYSCALL_BIT
KNOWN: dict[Arch, tuple[int | None, ...]] = {
    Arch.X86_64: (57, 58, 56, 435, 59, 272, 308, 312, 436),
    Arch.I386: (2, 190, 120, 435, 11, 310, 346, 349, 436),
    Arch.X32: (
        BIT + 57,
        BIT + 58,
        BIT + 56,
        BIT + 435,
        BIT + 520,
        BIT + 272,
        BIT + 308,
        BIT + 312,
        BIT + 436,
    ),
    Arch.AARCH64: (None, None, 220, 435, 221, 97, 268, 272, 436),
    Arch.RISCV64: (None, None, 220, 435, 221, 97, 268, 272, 436),
}


@pytest.mark.parametrize("arch", Arch)
def test_known_numbers(arch: Arch) -> None:
    assert tuple(syscalls.number(arch, call) for call in CALLS) == KNOWN[arch]


@pytest.mark.parametrize("arch", Arch)
def test_names_invert_numbers(arch: Arch) -> None:
    table = syscalls.numbers(arch)
    assert len(table) > 300
    assert {syscalls.name(arch, nr): nr for nr in table.values()} == table
    assert syscalls.name(arch, max(table.values()) + 1) is None
    assert syscalls.name(arch, -1) is None
    assert syscalls.number(arch, "no_such_call") is None


def test_x32_numbers_lead_back_to_x32() -> None:
    assert {arch_of(Arch.X32.audit, nr) for nr in syscalls.numbers(Arch.X32).values()} == {Arch.X32}
    assert {arch_of(Arch.X86_64.audit, nr) for nr in syscalls.numbers(Arch.X86_64).values()} == {Arch.X86_64}


def test_a_table_is_imported_when_it_is_first_used() -> None:
    program = """
import sys
from forklore.abi import syscalls
from forklore.abi.arch import Arch
def tables():
    return sorted(module.rpartition("_")[2] for module in sys.modules if "_generated_syscalls_" in module)
print(tables(), syscalls.number(Arch.I386, "clone"), tables())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[] 120 ['i386']\n"


# python-ptrace names some of i386's calls by the kernel's functions (getuid16, llseek), not by asm/unistd.h.
RENAMED_ON_I386 = {
    *(16, 18, 22, 23, 24, 28, 46, 47, 49, 50, 52, 70, 71, 76, 80, 81, 82, 84, 89, 90, 95, 106, 107, 108, 138),
    *(139, 140, 142, 149, 164, 165, 170, 171, 182, 191, *range(198, 217)),
}

# Its x86_64 table has x32's own numbers without the bit, and timerfd_create by an older name; its riscv64
# table has renameat, which that architecture never had.
DIFFERENT = {
    Arch.X86_64: {283, *range(512, 548)},
    Arch.I386: RENAMED_ON_I386,
    Arch.AARCH64: set(),
    Arch.RISCV64: {38},
}


@pytest.mark.parametrize("arch", DIFFERENT)
def test_python_ptrace_agrees(arch: Arch) -> None:
    theirs = import_module(f"ptrace.syscall.linux.{arch}").SYSCALL_NAMES
    assert len(theirs) > 290
    assert {nr for nr, call in theirs.items() if syscalls.name(arch, nr) != call} <= DIFFERENT[arch]
