"""kcmp(2): what two tasks can be compared by, and the answers."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from forklore.abi._generated_kcmp import KcmpType as KcmpType


class Order(IntEnum):
    """What kcmp(2) returns for two tasks' objects: kernel/kcmp.c: kcmp_ptr, which no uapi header names."""

    EQUAL = 0
    LESS = 1
    GREATER = 2
    UNEQUAL = 3
    """Not equal, and the kernel does not say in which order."""


UNSET: Final = 4
"""In the place of an answer: the objects compare as equal, because neither task has one."""
