"""What the kernel tells of every process beside the samples of perf_event_open(2): where code is mapped, and execs.

Needs CAP_PERFMON, or kernel.perf_event_paranoid below 1.
"""

from __future__ import annotations

import os
import struct
from typing import Final

from msgspec import Struct

from forklore.abi.units import Address, Fd, Pid
from forklore.linux.mappings import Mapping
from forklore.linux.perf.events import (
    COMM_EXEC,
    EVERY,
    Ask,
    Attributes,
    EventRing,
    Kind,
    Sample,
    open_event,
    processors,
)

_ATTRIBUTES: Final = Attributes(
    ask=Ask.MMAP | Ask.COMM | Ask.SAMPLE_ID_ALL | Ask.MMAP2 | Ask.COMM_EXEC | Ask.USE_CLOCKID, sample=Sample.TIME
)
_MMAP2: Final = struct.Struct("=II3QIIQQII")
_PROT_EXEC: Final = 4


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
    if kind == Kind.MMAP2:
        pid, _tid, start, size, offset, major, minor, inode, _generation, protection, flags = _MMAP2.unpack_from(body)
        name = body[_MMAP2.size : -8].partition(b"\0")[0]
        permissions = f"r{'w' if protection & 2 else '-'}{'x' if protection & _PROT_EXEC else '-'}"
        permissions += "s" if flags & 1 else "p"
        path = b"" if name == b"//anon" else name
        entry = Mapping(Address(start), Address(start + size), permissions, offset, major, minor, inode, path)
        return Mapped(time, Pid(pid), entry)
    if kind == Kind.COMM and misc & COMM_EXEC:
        return Executed(time, Pid(struct.unpack_from("=I", body)[0]))
    return Missed(time) if kind == Kind.LOST else None


class SideRecords:
    """The records of all processors, from when this is made. Raises OSError."""

    def __init__(self, size: int = 1 << 20) -> None:
        """``size``: bytes of each processor's ring, a power of two."""
        self._rings: list[tuple[Fd, EventRing]] = []
        try:
            for cpu in processors():
                fd = open_event(_ATTRIBUTES, EVERY, cpu)
                try:
                    ring = EventRing(fd, size)
                except OSError:
                    os.close(fd)
                    raise
                self._rings.append((fd, ring))
        except OSError:
            self.close()
            raise

    def read(self) -> list[Record]:
        """What is there now, in the order of time."""
        raw = (record for _fd, ring in self._rings for record in ring.records())
        found = [record for kind, misc, body in raw if (record := parse(kind, misc, body)) is not None]
        found.sort(key=lambda record: record.time)
        return found

    def close(self) -> None:
        """Nothing is recorded any more."""
        while self._rings:
            fd, ring = self._rings.pop()
            ring.close()
            os.close(fd)
