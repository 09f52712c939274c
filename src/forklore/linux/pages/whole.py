"""Much memory of a traced program, read without changing how it is shared: /proc/PID/mem.

process_vm_readv(2) is faster for one read, but it pins the pages it reads, and the kernel first gives the program a
copy of its own of every page that is shared by copy-on-write (mm/gup.c: gup_must_unshare, Linux 5.19). What is to be
measured would be gone, and the program would hold more memory for having been looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from forklore.abi.units import Tid, Unavailable
from forklore.linux.proc import unavailable

MOST: Final = 1 << 18
"""Bytes that are best read in one call: the buffer stays in the processor's cache."""


class Memory:
    """The opened memory of one task; a context manager. It stays the same memory if the task executes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._fd)

    def read(self, address: int, size: int) -> bytes | None:
        """Up to ``size`` bytes in one call; None where the first cannot be read."""
        try:
            return os.pread(self._fd, size, address)
        except (OSError, OverflowError):
            return None

    def read_into(self, view: memoryview, address: int) -> int:
        """Fill ``view`` from ``address``: how many bytes could be read before one that cannot.

        Pages that the program has mapped and never touched are made to be, as if it had read them: a zero page, or a
        page of the file.
        """
        done = 0
        while done < len(view):
            try:
                got = os.preadv(self._fd, [view[done:]], address + done)
            except OSError:  # EIO: not mapped, or without the right to be read; the count says where
                break
            if not got:  # the memory is given up: its last user has ended
                break
            done += got
        return done


def memory_of(tid: Tid) -> Memory:
    """The memory of a tracee, which is there unless the task was killed: then OSError."""
    return Memory(os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC))


def open_memory(tid: Tid) -> Memory | Unavailable:
    """The memory of a task; it takes the right to trace it (PTRACE_MODE_ATTACH), which its tracer has."""
    try:
        return memory_of(tid)
    except OSError as problem:
        return unavailable(problem, f"/proc/{tid}/mem")


def pieces(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Address and length of parts that are read in one call each."""
    for address in range(start, end, MOST):
        yield address, min(MOST, end - address)
