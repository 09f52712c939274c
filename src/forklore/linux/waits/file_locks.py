"""Locks on files: /proc/locks (proc_locks(5)), the lines of fdinfo that tell who has them."""

from __future__ import annotations

import mmap
from typing import Final

from msgspec import Struct, structs

from forklore.abi.units import Pid, Unavailable
from forklore.linux.proc import read_file

_AT_ONCE: Final = mmap.PAGESIZE - 256
"""So many bytes may be more than what one read gives (fs/seq_file.c)."""
_AGAIN: Final = 2
_READS: Final = 32
"""Numbers of one read lie so many bits apart from those of the next."""


class FileLock(Struct, frozen=True):
    """A line of /proc/locks."""

    number: int
    """Of the lock; those that wait for it have the same."""
    waits: bool
    kind: str
    """``FLOCK``, ``POSIX``, ``OFDLCK``, ``LEASE`` or ``DELEG``."""
    breaking: bool
    """Of a lease: whether it is to be given up."""
    access: str
    """``READ``, ``WRITE``, ``UNLCK`` or, of a lease that is being broken, what it becomes."""
    pid: Pid | None
    """Who took it, or waits; None for OFD locks, which belong to a description, and across pid namespaces."""
    file: tuple[int, int, int]
    """Device as major and minor, and inode."""
    start: int
    end: int | None
    """Of the range, in bytes; None: to the end of the file."""


def file_locks() -> list[FileLock] | Unavailable:
    """All locks that this pid namespace can see."""
    found = [read_file("/proc/locks", 1 << 24)]
    if not isinstance(found[0], Unavailable) and len(found[0]) > _AT_ONCE:
        found += [read_file("/proc/locks", 1 << 24) for _ in range(_AGAIN)]
    raws = [raw for raw in found if not isinstance(raw, Unavailable)]
    return parse_locks(*raws) if raws else found[0] if isinstance(found[0], Unavailable) else []


def parse_locks(*raws: bytes) -> list[FileLock]:
    """The lines of /proc/locks, and of ``lock:`` in fdinfo; others are left out. Of several reads each lock that any of
    them has.

    The file is numbered as it is read, a page at a time. A lock that has another number in the next page, because one
    was taken before it meanwhile, has the first of them; one that is in no page, because one was given up, is in the
    next read.
    """
    found: dict[FileLock, None] = {}
    first: dict[FileLock, int] = {}
    for index, raw in enumerate(raws):
        numbers: dict[int, int] = {}
        for line in raw.splitlines():
            lock = parse_lock(line)
            if lock is None:
                continue
            new = lock.number + (index << _READS)
            if not lock.waits:
                numbers[lock.number] = new = first.setdefault(structs.replace(lock, number=0), new)
            found[structs.replace(lock, number=numbers.get(lock.number, new))] = None
    return list(found)


def parse_lock(line: bytes) -> FileLock | None:
    """One line: ``1: POSIX  ADVISORY  WRITE 4711 fe:00:402117 0 EOF``, with ``->`` after the number if it waits."""
    words = line.decode("ascii", "replace").split()
    if len(words) < 8 or not words[0].endswith(":"):
        return None
    waits = words[1] == "->"
    rest = words[2:] if waits else words[1:]
    if len(rest) < 7:
        return None
    kind, mode, access, pid, file, start, end = rest[:7]
    try:
        major, minor, inode = file.split(":")
        return FileLock(
            number=int(words[0][:-1]),
            waits=waits,
            kind=kind,
            breaking=mode == "BREAKING",
            access=access,
            pid=Pid(int(pid)) if int(pid) > 0 else None,
            file=(int(major, 16), int(minor, 16), int(inode)),
            start=int(start),
            end=None if end == "EOF" else int(end),
        )
    except ValueError:
        return None
