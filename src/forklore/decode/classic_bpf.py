"""Classic BPF as seccomp(2) takes it: what a filter says about one call.

Read as kernel/bpf/core.c runs it after kernel/seccomp.c: seccomp_check_filter has let it in.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Final

from forklore.abi.seccomp import DATA_INSTRUCTION_POINTER, FILTER, MAX_INSTRUCTIONS
from forklore.abi.seccomp import opcodes as bpf

_LOW32: Final = 0xFFFF_FFFF
_CLASS: Final = 7
_MODE: Final = 0xE0
_OPERATION: Final = 0xF0
_ARITHMETIC: Final[dict[int, Callable[[int, int], int]]] = {
    bpf.BPF_ADD: operator.add,
    bpf.BPF_SUB: operator.sub,
    bpf.BPF_MUL: operator.mul,
    bpf.BPF_DIV: lambda a, b: a // b if b else 0,
    bpf.BPF_OR: operator.or_,
    bpf.BPF_AND: operator.and_,
    bpf.BPF_LSH: lambda a, b: a << (b & 31),
    bpf.BPF_RSH: lambda a, b: a >> (b & 31),
    bpf.BPF_NEG: lambda a, _: -a,
    bpf.BPF_XOR: operator.xor,
}
_TESTS: Final[dict[int, Callable[[int, int], bool]]] = {
    bpf.BPF_JEQ: operator.eq,
    bpf.BPF_JGT: operator.gt,
    bpf.BPF_JGE: operator.ge,
    bpf.BPF_JSET: lambda a, b: bool(a & b),
}
_DATA_SIZE: Final = 64


def run(program: bytes, data: bytes) -> int | None:
    """What ``program`` returns for a struct seccomp_data: an action with its data.

    None where that is not to be told: for what is no such program, and for one that looks at the call's address,
    which ``data`` does not have.
    """
    code = [FILTER.unpack_from(program, at) for at in range(0, len(program) - FILTER.size + 1, FILTER.size)]
    a = x = at = 0
    memory = [0] * bpf.BPF_MEMWORDS
    for _ in range(MAX_INSTRUCTIONS):
        if at >= len(code):
            return None
        op, yes, no, k = code[at]
        at += 1
        kind, how, operand = op & _CLASS, op & _OPERATION, x if op & bpf.BPF_X else k
        if kind == bpf.BPF_RET:
            return int(a if op & bpf.BPF_A else k)
        if kind == bpf.BPF_JMP:
            if how == bpf.BPF_JA:
                at += k
            elif how in _TESTS:
                at += yes if _TESTS[how](a, operand) else no
            else:
                return None
        elif kind == bpf.BPF_ALU and how in _ARITHMETIC:
            a = _ARITHMETIC[how](a, operand) & _LOW32
        elif kind in (bpf.BPF_LD, bpf.BPF_LDX):
            value = _load(op, k, data, memory)
            if value is None:
                return None
            a, x = (value, x) if kind == bpf.BPF_LD else (a, value)
        elif kind in (bpf.BPF_ST, bpf.BPF_STX) and k < len(memory):
            memory[k] = a if kind == bpf.BPF_ST else x
        elif kind == bpf.BPF_MISC:
            a, x = (x, x) if op & bpf.BPF_TXA else (a, a)
        else:
            return None
    return None


def _load(op: int, k: int, data: bytes, memory: list[int]) -> int | None:
    mode = op & _MODE
    if mode == bpf.BPF_LEN:
        return _DATA_SIZE
    if mode == bpf.BPF_MEM:
        return memory[k] if k < len(memory) else None
    if mode != bpf.BPF_ABS:
        return k if mode == bpf.BPF_IMM else None
    if k in (DATA_INSTRUCTION_POINTER, DATA_INSTRUCTION_POINTER + 4) or k + 4 > len(data):
        return None
    return int.from_bytes(data[k : k + 4], "little")
