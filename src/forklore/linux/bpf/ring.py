"""Reading a BPF ring buffer (kernel/bpf/ringbuf.c): records in the order in which room was reserved for them.

The kernel's side publishes with release stores, so that each load here must be one of acquire: of the producer's
position before the headers, of a header before its record. x86 orders loads by itself. Elsewhere a barrier stands
between: futex(2)'s FUTEX_WAKE, which begins with a full one whether or not anybody waits (kernel/futex/waitwake.c and
futex.h: futex_hb_waiters_pending, "Full barrier (B)").
"""

from __future__ import annotations

import ctypes
import mmap
import select
import sys
from collections.abc import Iterator
from typing import Final

from forklore.abi import syscalls
from forklore.abi.arch import X86
from forklore.abi.units import Fd
from forklore.linux import proc
from forklore.linux.libc import syscall

_BUSY, _DISCARDED = 1 << 31, 1 << 30
_HEADER: Final = 8
_ARCH: Final = proc.machine()
_FUTEX_WAKE_PRIVATE: Final = 129
_FUTEX: Final = None if _ARCH is None else syscalls.number(_ARCH, "futex")
_word: Final = ctypes.c_uint32()
_NEEDS_BARRIER: Final = _ARCH not in X86


def barrier() -> None:
    """What was read before this was read before what is read after it."""
    if _NEEDS_BARRIER and _FUTEX is not None:
        syscall(_FUTEX, ctypes.addressof(_word), _FUTEX_WAKE_PRIVATE, 0, 0, 0, 0)


class RingReader:
    """Takes records out of a ring that lies in memory: what is the reader's own, what the kernel says, and the data.

    ``data`` is there twice over in one piece, so that no record is cut where the ring begins again.
    """

    def __init__(self, position: memoryview, produced: memoryview, data: memoryview, size: int) -> None:
        self._position = position.cast("Q")
        self._produced = produced.cast("Q")
        self._lengths = data.cast("I")
        self._data = data
        self._mask = size - 1

    def records(self, most: int = sys.maxsize) -> Iterator[memoryview]:
        """The records that are there now, no more than so many, to be read to the end. Each is valid until the next is
        asked for; then its room is given back."""
        while most:
            at, end = self._position[0], self._produced[0]
            ready = self._ready(at, end, most) if at != end else []
            if not ready:
                return
            most -= len(ready)
            barrier()
            for position, word in ready:
                length = word & ~_DISCARDED
                start = (position & self._mask) + _HEADER
                if not word & _DISCARDED:
                    yield self._data[start : start + length]
                self._position[0] = position + _room(length)

    def _ready(self, at: int, end: int, most: int) -> list[tuple[int, int]]:
        """Where the records begin that are complete, up to the first that is not, and their first words; no more than
        ``most``."""
        barrier()
        ready: list[tuple[int, int]] = []
        while at < end and len(ready) < most:
            word = self._lengths[(at & self._mask) >> 2]
            if word & _BUSY:
                break
            ready.append((at, word))
            at += _room(word & ~_DISCARDED)
        return ready

    @property
    def read(self) -> int:
        """Bytes that were read, ever."""
        return int(self._position[0])

    @property
    def written(self) -> int:
        """Bytes that were written, ever."""
        return int(self._produced[0])

    @property
    def waiting(self) -> int:
        """Bytes that are there to be read."""
        return self.written - self.read

    def release(self) -> None:
        """Let go of the memory."""
        for view in (self._position, self._produced, self._lengths, self._data):
            view.release()


def _room(length: int) -> int:
    return (_HEADER + length + 7) & ~7


class Ring(RingReader):
    """The reader's side of a ring of the kernel's, of ``size`` bytes, a power of two."""

    def __init__(self, map_: Fd, size: int) -> None:
        """Map it. Raises OSError."""
        page = mmap.PAGESIZE
        self._mine = mmap.mmap(map_, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._theirs = mmap.mmap(map_, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        whole = memoryview(self._theirs)
        super().__init__(memoryview(self._mine)[:8], whole[:8], whole[page:], size)
        self._poll = select.epoll()
        self._poll.register(map_, select.EPOLLIN)

    def wait(self, seconds: float) -> None:
        """Until the programs wake the reader, or so long; -1: without an end."""
        self._poll.poll(seconds)

    def also(self, fd: int) -> None:
        """:meth:`wait` ends when this one can be read, too: once, for an ended process can be read for good."""
        self._poll.register(fd, select.EPOLLIN | select.EPOLLET)

    def close(self) -> None:
        """Unmap it."""
        self._poll.close()
        self.release()
        self._mine.close()
        self._theirs.close()


def power_of_two(size: int) -> int:
    """The least size of a ring that holds ``size`` bytes: a power of two, and a page at least."""
    return max(mmap.PAGESIZE, 1 << max(0, size - 1).bit_length())
