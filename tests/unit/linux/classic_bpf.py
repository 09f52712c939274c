"""A classic BPF machine as small as seccomp filters need it, with the checks that the kernel makes before it takes one.

Independent of the assembler under test: the opcodes are numbers here (linux/bpf_common.h).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

LD_W_ABS = 0x20
JMP_JA, JMP_JEQ_K, JMP_JGT_K, JMP_JGE_K, JMP_JSET_K = 0x05, 0x15, 0x25, 0x35, 0x45
ALU_AND_K = 0x54
RET_K = 0x06

DATA = struct.Struct("<iIQ6Q")
"""struct seccomp_data: nr, arch, instruction_pointer, args."""

RET_ALLOW, RET_TRACE = 0x7FFF0000, 0x7FF00000
LONGEST = 4096


class Instruction(NamedTuple):
    code: int
    yes: int
    no: int
    k: int


def parse(program: bytes) -> list[Instruction]:
    return [Instruction(*fields) for fields in struct.iter_unpack("<HBBI", program)]


def check(program: list[Instruction]) -> None:
    """What bpf_check_classic and seccomp_check_filter ask of a program (net/core/filter.c, kernel/seccomp.c)."""
    assert 0 < len(program) <= LONGEST
    for position, (code, yes, no, k) in enumerate(program):
        after = len(program) - position - 1
        if code == LD_W_ABS:
            assert k % 4 == 0
            assert k < DATA.size
        elif code in (JMP_JEQ_K, JMP_JGT_K, JMP_JGE_K, JMP_JSET_K):
            assert yes < after
            assert no < after
        elif code == JMP_JA:
            assert k < after
        else:
            assert code in (RET_K, ALU_AND_K)
    assert program[-1].code == RET_K


def reached(program: list[Instruction]) -> set[int]:
    """The instructions that some path comes to."""
    found: set[int] = set()
    ahead = [0]
    while ahead:
        position = ahead.pop()
        if position in found:
            continue
        found.add(position)
        code, yes, no, k = program[position]
        if code == RET_K:
            continue
        if code == JMP_JA:
            ahead.append(position + 1 + k)
        elif code in (LD_W_ABS, ALU_AND_K):
            ahead.append(position + 1)
        else:
            ahead += [position + 1 + yes, position + 1 + no]
    return found


def execute(program: list[Instruction], data: bytes) -> int:
    """What the program returns for a struct seccomp_data."""
    accumulator, position = 0, 0
    while True:
        code, yes, no, k = program[position]
        position += 1
        if code == RET_K:
            return k
        if code == LD_W_ABS:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif code == ALU_AND_K:
            accumulator &= k
        elif code == JMP_JA:
            position += k
        else:
            taken = {
                JMP_JEQ_K: accumulator == k,
                JMP_JGT_K: accumulator > k,
                JMP_JGE_K: accumulator >= k,
                JMP_JSET_K: bool(accumulator & k),
            }[code]
            position += yes if taken else no
