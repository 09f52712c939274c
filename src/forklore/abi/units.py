"""Names for the kinds of number that cross borders inside forklore, and the value of a failed read."""

from __future__ import annotations

from typing import Final, NewType

from msgspec import Struct

Tid = NewType("Tid", int)
"""A thread id in the tracer's pid namespace unless a name says otherwise."""

Pid = NewType("Pid", int)
"""A thread group id (what user space calls a process id), in the tracer's pid namespace."""

PID_LIMIT: Final = 1 << 22
"""Every tid and pid is below it (include/linux/threads.h: PID_MAX_LIMIT)."""

Fd = NewType("Fd", int)
"""A file descriptor, of the process that the context names."""

LOW32: Final = 0xFFFF_FFFF


def signed(word: int) -> int:
    """An int of C as the low half of an argument word has it."""
    low = word & LOW32
    return low - (1 << 32) if low >> 31 else low


NsInode = NewType("NsInode", int)
"""The inode number of a namespace, as in ``/proc/PID/ns/*``."""

Address = NewType("Address", int)
"""An address in a traced program."""

Nanoseconds = NewType("Nanoseconds", int)
"""A point or a span of CLOCK_MONOTONIC."""

TaskId = NewType("TaskId", int)
"""forklore's own number of a task, from 1, never reused within a trace."""


class Unavailable(Struct, frozen=True, tag_field="kind", tag="absent", gc=False):
    """Something that could not be read."""

    # A value, never a None that could mean three things. The records of a trace file hold it as it is.

    errno: int
    """Of the call that failed; 0 where none did."""
    why: str
    """Why, in words."""
