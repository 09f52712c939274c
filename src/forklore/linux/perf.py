"""What the kernel tells of every process beside the samples of perf_event_open(2): where code is mapped, and execs.

A dummy event on each processor (PERF_COUNT_SW_DUMMY) counts nothing and has these records in its ring, with times of
CLOCK_MONOTONIC. Needs CAP_PERFMON, or kernel.perf_event_paranoid below 1.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from forklore.abi import syscalls
from forklore.abi.units import Address, Fd, Pid
from forklore.linux import proc
from forklore.linux.bpf.ring import barrier
from forklore.linux.libc import fail, syscall
from forklore.linux.mappings import Mapping

_SIZE: Final = 112
_SOFTWARE, _DUMMY = 1, 9
_SAMPLE_TIME: Final = 1 << 2
_FLAGS: Final = 1 << 8 | 1 << 9 | 1 << 18 | 1 << 23 | 1 << 24 | 1 << 25
"""mmap, comm, sample_id_all, mmap2, comm_exec, use_clockid."""
_CLOEXEC: Final = 8
_HEADER: Final = struct.Struct("=IHH")
_MMAP2: Final = struct.Struct("=II3QIIQQII")
_LOST, _COMM, _MMAP2_TYPE = 2, 3, 10
_COMM_EXEC: Final = 1 << 13
_PROT_EXEC: Final = 4
_HEAD, _TAIL = 1024, 1032  # struct perf_event_mmap_page
_ARCH: Final = proc.machine()
_OPEN: Final = None if _ARCH is None else syscalls.number(_ARCH, "perf_event_open")


class Mapped(Struct, frozen=True, gc=False):
    """A process has code at another place."""

    time: int
    pid: Pid
    entry: Mapping


class Executed(Struct, frozen=True, gc=False):
    """A process has another image: nothing of the former one is mapped."""

    time: int
    pid: Pid


class Missed(Struct, frozen=True, gc=False):
    """Records were lost: what is mapped is not known any more."""

    time: int


Record = Mapped | Executed | Missed


def parse(kind: int, misc: int, body: bytes) -> Record | None:
    """A record behind its header; None for one that is not of interest. Its time stands last (sample_id_all)."""
    (time,) = struct.unpack_from("=Q", body, len(body) - 8)
    if kind == _MMAP2_TYPE:
        pid, _tid, start, size, offset, major, minor, inode, _generation, protection, flags = _MMAP2.unpack_from(body)
        name = body[_MMAP2.size : -8].partition(b"\0")[0]
        permissions = f"r{'w' if protection & 2 else '-'}{'x' if protection & _PROT_EXEC else '-'}"
        permissions += "s" if flags & 1 else "p"
        path = b"" if name == b"//anon" else name
        entry = Mapping(Address(start), Address(start + size), permissions, offset, major, minor, inode, path)
        return Mapped(time, Pid(pid), entry)
    if kind == _COMM and misc & _COMM_EXEC:
        return Executed(time, Pid(struct.unpack_from("=I", body)[0]))
    return Missed(time) if kind == _LOST else None


class SideRecords:
    """The records of all processors, from when this is made. Raises OSError."""

    def __init__(self, size: int = 1 << 20) -> None:
        """``size``: bytes of each processor's ring, a power of two."""
        self._rings: list[tuple[Fd, mmap.mmap]] = []
        self._size = size
        try:
            for cpu in _processors():
                fd = _open(cpu)
                try:
                    ring = mmap.mmap(fd, mmap.PAGESIZE + size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
                except OSError:
                    os.close(fd)
                    raise
                self._rings.append((fd, ring))
        except OSError:
            self.close()
            raise

    def read(self) -> list[Record]:
        """What is there now, in the order of time."""
        found = [record for _fd, ring in self._rings for record in self._of(ring)]
        found.sort(key=lambda record: record.time)
        return found

    def _of(self, ring: mmap.mmap) -> Iterator[Record]:
        head, tail = (struct.unpack_from("=Q", ring, at)[0] for at in (_HEAD, _TAIL))
        barrier()
        while tail < head:
            kind, misc, size = _HEADER.unpack(self._bytes(ring, tail, _HEADER.size))
            if size < _HEADER.size:
                break  # no kernel writes that
            record = parse(kind, misc, self._bytes(ring, tail + _HEADER.size, size - _HEADER.size))
            if record is not None:
                yield record
            tail += size
        barrier()
        struct.pack_into("=Q", ring, _TAIL, tail)

    def _bytes(self, ring: mmap.mmap, position: int, length: int) -> bytes:
        start = position % self._size
        first = ring[mmap.PAGESIZE + start : mmap.PAGESIZE + min(start + length, self._size)]
        rest = length - len(first)
        return first + ring[mmap.PAGESIZE : mmap.PAGESIZE + rest] if rest else first

    def close(self) -> None:
        """Nothing is recorded any more."""
        while self._rings:
            fd, ring = self._rings.pop()
            ring.close()
            os.close(fd)


def _open(cpu: int) -> Fd:
    if _OPEN is None:
        raise OSError(38, "no perf_event_open(2) is known for this machine")
    clock = 1  # CLOCK_MONOTONIC
    block = struct.pack("=IIQQQQQ", _SOFTWARE, _SIZE, _DUMMY, 0, _SAMPLE_TIME, 0, _FLAGS).ljust(92, b"\0")
    raw = ctypes.create_string_buffer((block + struct.pack("=i", clock)).ljust(_SIZE, b"\0"), _SIZE)
    every, no_group = (1 << 64) - 1, (1 << 64) - 1
    fd = syscall(_OPEN, ctypes.addressof(raw), every, cpu, no_group, _CLOEXEC, 0)
    if fd == -1:
        raise fail("perf_event_open")
    return Fd(fd)


def _processors() -> list[int]:
    text = proc.read_file("/sys/devices/system/cpu/online")
    ranges = text.decode().strip() if isinstance(text, bytes) else "0"
    found: list[int] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
