"""struct clone_args of clone3(2): a size-versioned struct of 64-bit words, the same on every ABI.

This module alone knows where a member lies. Of a block that ends before a member the kernel takes the member for zero
(kernel/fork.c: copy_clone_args_from_user), and so does every function here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, Literal, NamedTuple, cast

from forklore.abi._generated_sched import (
    CLONE_ARGS,
    CLONE_ARGS_SIZE_VER0,
    CLONE_ARGS_SIZE_VER1,
    CLONE_ARGS_SIZE_VER2,
)

VER0: Final = CLONE_ARGS_SIZE_VER0
"""Bytes of the struct of Linux 5.3, through ``tls``; the kernel refuses less."""
VER1: Final = CLONE_ARGS_SIZE_VER1
"""Bytes of the struct of Linux 5.5, with ``set_tid`` and ``set_tid_size``."""
VER2: Final = CLONE_ARGS_SIZE_VER2
"""Bytes of the struct of Linux 5.7, with ``cgroup``."""
SIZES: Final = (VER0, VER1, VER2)

FieldName = Literal[
    "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid", "set_tid_size",
    "cgroup",
]  # fmt: skip


class Field(NamedTuple):
    """A member and its offset in bytes."""

    name: FieldName
    offset: int


FIELDS: Final = tuple(Field(cast("FieldName", name), offset) for name, offset, _width in CLONE_ARGS)
"""All members in order: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
set_tid_size, cgroup. ``stack`` is the lowest address of the stack, where clone(2) takes the highest."""

STRUCT: Final = struct.Struct(f"<{len(FIELDS)}Q")
"""The whole struct of VER2 bytes; a shorter one is filled up with zeros, as the kernel does it."""
WORD: Final = struct.Struct("<Q")
"""One member."""
OFFSETS: Final = {field.name: field.offset for field in FIELDS}


def field(block: bytes, name: FieldName) -> int:
    """One member of a block."""
    return reader(name)(block)[0]


def reader(*names: FieldName) -> Callable[[bytes], tuple[int, ...]]:
    """A function that reads these members of a block at once, in the order of the struct."""
    layout, end = "<", 0
    for name in names:
        layout += f"{OFFSETS[name] - end}xQ"
        end = OFFSETS[name] + WORD.size
    whole = struct.Struct(layout)

    def read(block: bytes) -> tuple[int, ...]:
        return whole.unpack_from(block if len(block) >= end else block.ljust(end, b"\0"))

    return read


def hexadecimal(name: FieldName) -> slice:
    """Where a member lies in a block that is written in hexadecimal, as a trace has it."""
    return slice(2 * OFFSETS[name], 2 * (OFFSETS[name] + WORD.size))


def pack(**words: int) -> bytes:
    """A block of VER2 bytes with these members, and zero for the others.

    :raises struct.error: for a name that is no member's.
    """
    return STRUCT.pack(*(dict.fromkeys(OFFSETS, 0) | words).values())
