"""Calls out of Debian's programs and libraries, as their disassembly has them, and the functions that they enter."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.arch import Arch
from forklore.elf.cfi.call_instructions import Fetch, called_at, jump_to, linked


def memory(pieces: Mapping[int, bytes]) -> Fetch:
    """Pieces of memory by their addresses; what lies around them is not mapped."""

    def fetch(address: int, size: int) -> bytes | None:
        for start, piece in pieces.items():
            if start <= address and address + size <= start + len(piece):
                return piece[address - start : address - start + size]
        return None

    return fetch


def padded(code: bytes, size: int = 24) -> bytes:
    return code.ljust(size, b"\0")


def words(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


PLT = {
    Arch.X86_64: (0x1150, bytes.fromhex("ff253a2f0000 6812000000 e9c0feffff"), 0x4090),
    Arch.AARCH64: (0x3A70, words(0xB0000170, 0xF9400611, 0x91002210, 0xD61F0220), 0x30008),
    Arch.RISCV64: (0x49F0, words(0x00018E17, 0x0D8E3E03, 0x000E0367, 0x00000013), 0x1CAC8),
}
"""An entry of a procedure linkage table, and its slot; at an address in its file."""

CALLS = {
    Arch.X86_64: (0x1A91, bytes.fromhex("4c89e7 e8bff6ffff"), 0x1150),
    Arch.I386: (0x1A91, bytes.fromhex("505050 e8bff6ffff"), 0x1150),
    Arch.AARCH64: (0x4100, words(0xD503201F, 0x97FFFF39), 0x3DE0),
    Arch.RISCV64: (0x4F5E, bytes.fromhex("01002ae0") + words(0xBE7FF0EF), 0x4B40),
}
"""A return address, the code before it, and what it calls."""


@pytest.mark.parametrize("arch", CALLS)
def test_what_a_direct_call_enters(arch: Arch) -> None:
    returns, code, target = CALLS[arch]
    assert called_at(arch, memory({returns - len(code): code}), returns) == target


@pytest.mark.parametrize("arch", PLT)
def test_a_table_leads_on_once_its_slot_is_filled(arch: Arch) -> None:
    entry, code, slot = PLT[arch]
    filled = {entry: padded(code), slot: (0x7F_1234_5670).to_bytes(8, "little")}
    assert linked(arch, memory(filled), entry) == 0x7F_1234_5670
    assert linked(arch, memory({entry: padded(code)}), entry) == entry
    assert linked(arch, memory({entry: padded(b"\x90")}), entry) == entry


JUMPS = {
    Arch.X86_64: (bytes.fromhex("31c0 e9f9efffff"), 0x1000, 7),  # xor eax, eax; jmp
    Arch.I386: (bytes.fromhex("85c0 0f84f8efffff c3"), 0x1000, 8),  # test eax, eax; je
    Arch.AARCH64: (words(0xD503201F, 0x17FFFBFF), 0x1000, 8),  # nop; b
    Arch.RISCV64: (words(0x00000013, 0xFFDFE06F), 0x1000, 8),  # nop; j
}
"""The code of a function at 0x2000, where it jumps to, and what lies behind the jump."""


@pytest.mark.parametrize("arch", JUMPS)
def test_the_jump_by_which_a_function_ends(arch: Arch) -> None:
    code, target, behind = JUMPS[arch]
    fetch = memory({0x2000: code})
    assert jump_to(arch, fetch, 0x2000, len(code), target) == 0x2000 + behind
    assert jump_to(arch, fetch, 0x2000, len(code), target + 4) is None
    assert jump_to(arch, fetch, 0x2000, len(code) + 1, target) is None  # not all of it can be read


def test_of_two_jumps_to_one_function_neither_is_taken() -> None:
    code = bytes.fromhex("e9fbefffff e9f6efffff")
    assert jump_to(Arch.X86_64, memory({0x2000: code}), 0x2000, 5, 0x1000) == 0x2005
    assert jump_to(Arch.X86_64, memory({0x2000: code}), 0x2000, 10, 0x1000) is None


def test_a_call_through_a_table() -> None:
    returns, call, target = CALLS[Arch.X86_64]
    entry, code, slot = PLT[Arch.X86_64]
    assert entry == target
    pieces = {returns - len(call): call, entry: padded(code), slot: (0x5000).to_bytes(8, "little")}
    assert called_at(Arch.X86_64, memory(pieces), returns) == 0x5000


@pytest.mark.parametrize(
    ("before", "code"),
    [
        ("f30f1efa", "ff25762f0000"),  # endbr64; jmp
        ("f30f1efa", "f2ff25752f0000"),  # endbr64; bnd jmp, as binutils 2.31 to 2.37 made it
    ],
)
def test_a_table_with_branch_targets_on_x86_64(before: str, code: str) -> None:
    pieces = {0x1110: padded(bytes.fromhex(before + code)), 0x4090: (0x5000).to_bytes(8, "little")}
    assert linked(Arch.X86_64, memory(pieces), 0x1110) == 0x5000


def test_a_table_with_branch_targets_on_aarch64() -> None:
    code = words(0xD503245F, 0xB0000170, 0xF9400611, 0x91002210, 0xD61F0220)  # bti c first
    pieces = {0x3A70: code, 0x30008: (0x5000).to_bytes(8, "little")}
    assert linked(Arch.AARCH64, memory(pieces), 0x3A70) == 0x5000


def test_without_a_table_the_call_itself_names_the_slot() -> None:
    pieces = {0x1000 - 7: b"\x90" + bytes.fromhex("ff15f02f0000"), 0x3FF0: (0x5000).to_bytes(8, "little")}
    assert called_at(Arch.X86_64, memory(pieces), 0x1000) == 0x5000
    assert called_at(Arch.I386, memory(pieces), 0x1000) is None  # there the number is an address, not a distance


def test_an_auipc_and_jalr_far_apart_on_riscv64() -> None:
    code = words(0x00012097, 0xFF0080E7)  # auipc ra, 0x12; jalr ra, -16(ra)
    assert called_at(Arch.RISCV64, memory({0x1000: code}), 0x1008) == 0x1000 + 0x12000 - 16


@pytest.mark.parametrize(
    ("arch", "code"),
    [
        (Arch.X86_64, bytes.fromhex("9090909090ffd0")),  # call *%rax
        (Arch.AARCH64, words(0xD503201F, 0xD63F0020)),  # blr x1
        (Arch.RISCV64, words(0x00000013) + bytes.fromhex("01008297")),  # c.nop; c.jalr a5
        (Arch.RISCV64, words(0x00000013) + words(0x900200EF | 5 << 23)),  # a jal, or a c.jalr after two other bytes
    ],
)
def test_a_call_of_what_a_register_holds_does_not_tell(arch: Arch, code: bytes) -> None:
    assert called_at(arch, memory({0x1000 - len(code): code}), 0x1000) is None


@given(st.sampled_from([*CALLS]), st.binary(min_size=64, max_size=64), st.integers(0, 1 << 64))
def test_any_code_gives_an_address_or_none(arch: Arch, code: bytes, where: int) -> None:
    for returns in (where, where + 32, where + 64):
        found = called_at(arch, memory({where: code}), returns)
        assert found is None or isinstance(found, int)
