"""Locks on files: /proc/locks (proc_locks(5)), the lines of fdinfo that tell who has them."""

from __future__ import annotations

from msgspec import Struct

from forklore.abi.units import Pid, Unavailable
from forklore.linux.proc import read_file


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
    raw = read_file("/proc/locks", 1 << 24)
    return raw if isinstance(raw, Unavailable) else parse_locks(raw)


def parse_locks(raw: bytes) -> list[FileLock]:
    """The lines of /proc/locks, and of ``lock:`` in fdinfo; others are left out."""
    found = []
    for line in raw.splitlines():
        lock = parse_lock(line)
        if lock is not None:
            found.append(lock)
    return found


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
