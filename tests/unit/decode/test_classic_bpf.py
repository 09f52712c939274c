"""Filters of seccomp(2), run on one call."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.arch import Arch
from forklore.abi.seccomp import DATA_ARCH, DATA_INSTRUCTION_POINTER, DATA_NR, FILTER, Action
from forklore.abi.seccomp import opcodes as bpf
from forklore.decode.classic_bpf import run

DATA = struct.pack("<iIQ6Q", 56, Arch.X86_64.audit, 0, 0x1200011, 1, 2, 3, 4, 5)
LOAD = bpf.BPF_LD | bpf.BPF_W | bpf.BPF_ABS
EQUAL = bpf.BPF_JMP | bpf.BPF_JEQ | bpf.BPF_K
RETURN = bpf.BPF_RET | bpf.BPF_K
ERRNO = Action.ERRNO | 38


def program(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(FILTER.pack(*instruction) for instruction in instructions)


def test_a_filter_by_number() -> None:
    code = program((LOAD, 0, 0, DATA_NR), (EQUAL, 0, 1, 56), (RETURN, 0, 0, ERRNO), (RETURN, 0, 0, Action.ALLOW))
    assert run(code, DATA) == ERRNO
    assert run(code, struct.pack("<i", 57) + DATA[4:]) == Action.ALLOW


def test_a_filter_by_flags_as_libseccomp_writes_it() -> None:
    # A masked comparison of the first argument: clone with CLONE_NEWUSER.
    masked = program(
        (LOAD, 0, 0, DATA_ARCH), (EQUAL, 0, 4, Arch.X86_64.audit), (LOAD, 0, 0, 16),
        (bpf.BPF_ALU | bpf.BPF_AND | bpf.BPF_K, 0, 0, 0x10000000), (EQUAL, 0, 1, 0x10000000),
        (RETURN, 0, 0, ERRNO), (RETURN, 0, 0, Action.ALLOW),
    )  # fmt: skip
    assert run(masked, DATA) == Action.ALLOW
    assert run(masked, DATA[:16] + struct.pack("<Q", 0x10000011) + DATA[24:]) == ERRNO


def test_registers_memory_and_a_computed_answer() -> None:
    code = program(
        (bpf.BPF_LD | bpf.BPF_IMM, 0, 0, 7), (bpf.BPF_ST, 0, 0, 3), (bpf.BPF_MISC | bpf.BPF_TAX, 0, 0, 0),
        (bpf.BPF_ALU | bpf.BPF_LSH | bpf.BPF_X, 0, 0, 0), (bpf.BPF_LDX | bpf.BPF_MEM, 0, 0, 3),
        (bpf.BPF_ALU | bpf.BPF_SUB | bpf.BPF_X, 0, 0, 0), (bpf.BPF_JMP | bpf.BPF_JA, 0, 0, 1), (RETURN, 0, 0, 1),
        (bpf.BPF_RET | bpf.BPF_A, 0, 0, 0),
    )  # fmt: skip
    assert run(code, DATA) == (7 << 7) - 7
    assert run(program((bpf.BPF_LD | bpf.BPF_W | bpf.BPF_LEN, 0, 0, 0), (bpf.BPF_RET | bpf.BPF_A, 0, 0, 0)), DATA) == 64


def test_what_cannot_be_told() -> None:
    assert run(b"", DATA) is None
    assert run(program((LOAD, 0, 0, DATA_INSTRUCTION_POINTER), (RETURN, 0, 0, 0)), DATA) is None
    assert run(program((LOAD, 0, 0, 4096), (RETURN, 0, 0, 0)), DATA) is None
    assert run(program((bpf.BPF_JMP | bpf.BPF_JA, 0, 0, 9)), DATA) is None


@given(code=st.binary(max_size=400), data=st.binary(min_size=64, max_size=64))
def test_any_bytes_have_an_answer_or_none(code: bytes, data: bytes) -> None:
    answer = run(code, data)
    assert answer is None or 0 <= answer < 1 << 32
