"""Registers by name in blocks of every ABI, and the words of the call that a program is in."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.arch import Arch
from forklore.abi.registers import LAYOUTS
from forklore.linux.tracing.ptrace import Registers

# syscall(2): the number, then the arguments.
OF_CALL = {
    Arch.X86_64: ("orig_rax", "rdi", "rsi", "rdx", "r10", "r8", "r9"),
    Arch.X32: ("orig_rax", "rdi", "rsi", "rdx", "r10", "r8", "r9"),
    Arch.I386: ("orig_eax", "ebx", "ecx", "edx", "esi", "edi", "ebp"),
    Arch.AARCH64: ("x8", "x0", "x1", "x2", "x3", "x4", "x5"),
    Arch.RISCV64: ("a7", "a0", "a1", "a2", "a3", "a4", "a5"),
}


def block(arch: Arch) -> Registers:
    return Registers(LAYOUTS[arch], random.Random(arch).randbytes(LAYOUTS[arch].size))


@pytest.mark.parametrize("arch", list(Arch))
def test_the_call_that_a_program_is_in(arch: Arch) -> None:
    held = block(arch)
    nr, *arguments = OF_CALL[arch]
    assert held.call(arch) == (held[nr], tuple(held[name] for name in arguments))


def test_a_32_bit_call_of_a_64_bit_program() -> None:
    # int 0x80: the arguments are in the registers of i386, and the kernel takes their low halves.
    held = block(Arch.X86_64)
    nr, words = held.call(Arch.I386)
    assert nr == held["orig_rax"]
    assert words == tuple(held[name] & 0xFFFFFFFF for name in ("rbx", "rcx", "rdx", "rsi", "rdi", "rbp"))
    assert any(held[name] >> 32 for name in ("rbx", "rcx"))
    assert held.argument_names(Arch.I386)[0] == "rbx"
    assert held.argument_names(Arch.X86_64)[0] == "rdi"


@pytest.mark.parametrize("arch", list(Arch))
@given(value=st.integers(-(1 << 64), 1 << 65), choice=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_one_register_is_replaced_and_no_other(arch: Arch, value: int, choice: int) -> None:
    held = block(arch)
    name = held.layout.names[choice % len(held.layout.names)]
    changed = held.replace(name, value)
    assert changed[name] == value & ((1 << 8 * held.layout.word) - 1)
    assert len(changed.raw) == len(held.raw)
    for other in held.layout.names:
        assert other == name or changed[other] == held[other]
    assert changed.replace(name, held[name]) == held


def test_a_name_that_the_abi_lacks() -> None:
    with pytest.raises(KeyError):
        block(Arch.AARCH64)["rax"]
    with pytest.raises(KeyError):
        block(Arch.I386).replace("rax", 1)
