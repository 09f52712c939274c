"""Events of perf_event_open(2) and the rings that their records are read from. errno becomes OSError here.

A dummy event (PERF_COUNT_SW_DUMMY) counts nothing; its ring has the records that it asks for, with times of
CLOCK_MONOTONIC. A ring is of one processor: the kernel maps no ring of an event that is inherited otherwise.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import Final

from msgspec import Struct

from forklore.abi import syscalls
from forklore.abi.units import Fd
from forklore.linux import proc
from forklore.linux.bpf.ring import barrier
from forklore.linux.libc import fail, function, syscall

SOFTWARE, TRACEPOINT = 1, 2
"""PERF_TYPE_SOFTWARE, PERF_TYPE_TRACEPOINT."""
DUMMY: Final = 9
"""PERF_COUNT_SW_DUMMY."""
EVERY: Final = -1
"""Of processes: all that there are."""

_PARANOID: Final = "/proc/sys/kernel/perf_event_paranoid"
_SIZE: Final = 112  # PERF_ATTR_SIZE_VER5
_ATTRIBUTES: Final = struct.Struct("=IIQQQQQI40xi16x")
_CLOCK: Final = 1  # CLOCK_MONOTONIC
_CLOEXEC: Final = 8
_FORMAT_LOST: Final = 1 << 4
_HEADER: Final = struct.Struct("=IHH")
_HEAD, _TAIL = 1024, 1032  # struct perf_event_mmap_page
_ARCH: Final = proc.machine()
_OPEN: Final = None if _ARCH is None else syscalls.number(_ARCH, "perf_event_open")
_WORD: Final = 0xFFFFFFFF
_LONG: Final = 0xFFFFFFFFFFFFFFFF
_ioctl: Final = function("ioctl", ctypes.c_int, ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong)


def paranoid() -> int | None:
    """kernel.perf_event_paranoid: from -1, which forbids nothing, upwards; None where it cannot be read."""
    return proc.setting(_PARANOID)


class Ask(IntFlag):
    """Bits of struct perf_event_attr, as far as they are used (include/uapi/linux/perf_event.h)."""

    INHERIT = 1 << 1
    EXCLUDE_KERNEL = 1 << 5
    EXCLUDE_HV = 1 << 6
    MMAP = 1 << 8
    COMM = 1 << 9
    TASK = 1 << 13
    WATERMARK = 1 << 14
    SAMPLE_ID_ALL = 1 << 18
    MMAP2 = 1 << 23
    COMM_EXEC = 1 << 24
    USE_CLOCKID = 1 << 25


class Sample(IntFlag):
    """Bits of sample_type, as far as they are used."""

    TID = 1 << 1
    TIME = 1 << 2
    RAW = 1 << 10


class Kind(IntEnum):
    """enum perf_event_type, as far as it is used."""

    LOST = 2
    COMM = 3
    EXIT = 4
    FORK = 7
    SAMPLE = 9
    MMAP2 = 10


COMM_EXEC: Final = 1 << 13
"""PERF_RECORD_MISC_COMM_EXEC: the name is that of a new image."""


class Request(IntEnum):
    """ioctl(2) requests of an event, as far as they are used."""

    ENABLE = 0x2400
    DISABLE = 0x2401
    SET_OUTPUT = 0x2405
    SET_BPF = 0x40042408


class Attributes(Struct, frozen=True):
    """struct perf_event_attr. ``wakeup``: bytes that wait when the reader is woken (with WATERMARK), else events."""

    type: int = SOFTWARE
    config: int = DUMMY
    ask: int = 0
    sample: int = 0
    period: int = 0
    counts_lost: bool = False
    """A read of the event tells how many of its records found no room (Linux 6.0)."""
    wakeup: int = 0

    def packed(self) -> bytes:
        """As the kernel reads it."""
        lost = _FORMAT_LOST if self.counts_lost else 0
        return _ATTRIBUTES.pack(
            self.type, _SIZE, self.config, self.period, self.sample, lost, self.ask, self.wakeup, _CLOCK
        )


def open_event(attributes: Attributes, who: int, cpu: int, what: str = "perf_event_open") -> Fd:
    """An event of a task (0: our own thread; EVERY: of all), on a processor. Raises OSError, which names ``what``."""
    if _OPEN is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), "perf_event_open(2) on this machine")
    block = ctypes.create_string_buffer(attributes.packed(), _SIZE)
    fd: int = syscall(_OPEN, ctypes.addressof(block), who & _LONG, cpu & _LONG, _LONG, _CLOEXEC, 0)
    if fd == -1:
        raise fail(what)
    return Fd(fd)


def request(event: Fd, what: Request, argument: int = 0, of: str = "perf_event_open") -> None:
    """ioctl(2) on an event. Raises OSError, which names ``of``."""
    if _ioctl(event, what, argument & _LONG) == -1:
        raise fail(of)


class EventRing:
    """An event's ring, mapped: records in the order in which this processor wrote them."""

    def __init__(self, event: Fd, size: int) -> None:
        """``size``: bytes, a power of two. Raises OSError: EPERM where a user may not lock so much memory."""
        self._size = size
        self._memory = mmap.mmap(event, mmap.PAGESIZE + size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)

    def records(self) -> Iterator[tuple[int, int, bytes]]:
        """What is there now: kind, the header's misc, and what stands behind the header. Its room is given back."""
        ring = self._memory
        head, tail = (struct.unpack_from("=Q", ring, at)[0] for at in (_HEAD, _TAIL))
        barrier()
        while tail < head:
            kind, misc, size = _HEADER.unpack(self._bytes(tail, _HEADER.size))
            if size < _HEADER.size:
                break  # no kernel writes that
            yield kind, misc, self._bytes(tail + _HEADER.size, size - _HEADER.size)
            tail += size
        barrier()
        struct.pack_into("=Q", ring, _TAIL, tail)

    def _bytes(self, position: int, length: int) -> bytes:
        start, ring = position % self._size, self._memory
        first = ring[mmap.PAGESIZE + start : mmap.PAGESIZE + min(start + length, self._size)]
        rest = length - len(first)
        return first + ring[mmap.PAGESIZE : mmap.PAGESIZE + rest] if rest else first

    def close(self) -> None:
        """Unmap it."""
        self._memory.close()


def processors() -> list[int]:
    """The numbers of those that are online."""
    text = proc.read_file("/sys/devices/system/cpu/online")
    ranges = text.decode().strip() if isinstance(text, bytes) else "0"
    found: list[int] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
