"""seccomp(2): modes, filter flags, what a filter reads and returns, and the opcodes it is written in."""

from __future__ import annotations

import struct
from typing import Final

from forklore.abi import _generated_seccomp as _seccomp
from forklore.abi._generated_seccomp import SECCOMP_RET_ACTION_FULL as SECCOMP_RET_ACTION_FULL
from forklore.abi._generated_seccomp import SECCOMP_RET_DATA as SECCOMP_RET_DATA
from forklore.abi._generated_seccomp import Action as Action
from forklore.abi._generated_seccomp import FilterFlag as FilterFlag
from forklore.abi._generated_seccomp import Mode as Mode
from forklore.abi._generated_seccomp import Operation as Operation

opcodes: Final = _seccomp
"""Every opcode of classic BPF, as BPF_LD and the like, for who reads filters."""

_OFFSETS: Final = {name: offset for name, offset, _ in _seccomp.SECCOMP_DATA}

DATA_NR: Final = _OFFSETS["nr"]
"""Offset in struct seccomp_data of the call's number, 32 bits."""
DATA_ARCH: Final = _OFFSETS["arch"]
"""Offset of the AUDIT_ARCH_* of the call, 32 bits; x32 shows in the number only."""
DATA_INSTRUCTION_POINTER: Final = _OFFSETS["instruction_pointer"]
"""Offset of the address of the call, 64 bits."""
DATA_ARGS: Final = tuple(_OFFSETS[f"args{index}"] for index in range(6))
"""Offsets of the six arguments, 64 bits each, the low half first."""

FILTER: Final = struct.Struct("<HBBI")
"""struct sock_filter: code, jump if true, jump if false, operand."""
MAX_INSTRUCTIONS: Final = _seccomp.BPF_MAXINSNS
"""The longest filter that the kernel takes."""

LOAD_WORD: Final = _seccomp.BPF_LD | _seccomp.BPF_W | _seccomp.BPF_ABS
"""A = the 32 bits at offset k of struct seccomp_data, which must be a multiple of 4."""
JUMP_IF_EQUAL: Final = _seccomp.BPF_JMP | _seccomp.BPF_JEQ | _seccomp.BPF_K
"""Skip ``jump if true`` instructions if A == k, else ``jump if false``."""
JUMP_IF_GREATER_OR_EQUAL: Final = _seccomp.BPF_JMP | _seccomp.BPF_JGE | _seccomp.BPF_K
"""The same for A >= k, unsigned."""
JUMP_IF_ANY_BIT: Final = _seccomp.BPF_JMP | _seccomp.BPF_JSET | _seccomp.BPF_K
"""The same for A & k != 0."""
RETURN: Final = _seccomp.BPF_RET | _seccomp.BPF_K
"""End with k: an Action, with data in its low 16 bits."""
