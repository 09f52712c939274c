"""struct clone_args of clone3(2): a size-versioned struct of 64-bit words, the same on every ABI."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

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


class Field(NamedTuple):
    """A member: its offset in bytes, and the smallest published struct size (64, 80 or 88) that holds it."""

    name: str
    offset: int
    since_size: int


FIELDS: Final = tuple(
    Field(name, offset, min(size for size in SIZES if offset + width <= size))
    for name, offset, width in CLONE_ARGS
)
"""All members in order: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
set_tid_size, cgroup. ``stack`` is the lowest address of the stack, where clone(2) takes the highest."""

STRUCT: Final = struct.Struct(f"<{len(FIELDS)}Q")
"""The whole struct of VER2 bytes; a shorter one is filled up with zeros, as the kernel does it."""
