"""Who holds what: the descriptor tables of all processes, by what lies behind each descriptor.

A table is read when the process is asked about; the index is of the whole machine, for a pipe's other end may be
anywhere. What may not be read is counted with its reason.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from forklore.abi.units import Fd, Pid, Tid, Unavailable
from forklore.linux import kcmp, proc, tasks
from forklore.linux.descriptors import by_name, order
from forklore.linux.files.file_calls import FileStatus, status
from forklore.linux.kcmp import Order

_AT_FDCWD: Final = -100
_INFO: Final = 1 << 16
_O_CLOEXEC: Final = os.O_CLOEXEC
_NAMED: Final = (b"pipe:[", b"socket:[", b"anon_inode:")
"""Targets whose name tells what they are. Of a path the inode is asked for only where a file is looked for."""


class Holding(Struct, frozen=True, gc=False):
    """A descriptor of a process."""

    pid: Pid
    tid: Tid
    """Whose table was read: the process's first thread, unless that has ended."""
    fd: Fd
    target: bytes


class Info(Struct, frozen=True):
    """A fdinfo file: every line as name and value, in order."""

    lines: tuple[tuple[bytes, bytes], ...]

    def first(self, name: bytes) -> bytes | None:
        """The value of a line."""
        return next((value for key, value in self.lines if key == name), None)

    def all(self, name: bytes) -> list[bytes]:
        """The values of all lines of that name: epoll's ``tfd``, file locks' ``lock``."""
        return [value for key, value in self.lines if key == name]

    def number(self, name: bytes, base: int = 10) -> int | None:
        """The value of a line that is a number."""
        value = self.first(name)
        try:
            return None if value is None else int(value.split()[0], base)
        except (ValueError, IndexError):
            return None

    @property
    def flags(self) -> int | None:
        """Status flags and O_CLOEXEC, as in the file."""
        return self.number(b"flags", 8)

    @property
    def cloexec(self) -> bool | None:
        """Whether the descriptor is closed on exec."""
        flags = self.flags
        return None if flags is None else bool(flags & _O_CLOEXEC)


def parse_info(raw: bytes) -> Info:
    """The lines of a fdinfo file; of epoll's, which have several fields, all that follows the first name.

    Lines without a name, as io_uring's list of polls has them, have an empty one.
    """
    lines = []
    for line in raw.splitlines():
        name, colon, value = line.partition(b":")
        lines.append((name.strip(), value.strip()) if colon else (b"", line.strip()))
    return Info(tuple(lines))


def info(tid: Tid, fd: int) -> Info | Unavailable:
    """The fdinfo of a descriptor."""
    raw = proc.read_file(f"/proc/{tid}/fdinfo/{fd}", _INFO)
    return raw if isinstance(raw, Unavailable) else parse_info(raw)


def target(tid: Tid, fd: int) -> bytes | Unavailable:
    """What a descriptor refers to, as /proc names it."""
    return proc.descriptor(tid, fd)


def access(tid: Tid, fd: int) -> tuple[bool, bool] | None:
    """Whether a descriptor is open for reading, and for writing, by the mode of its link; None where it is gone."""
    try:
        mode = os.lstat(f"/proc/{tid}/fd/{fd}").st_mode
    except OSError:
        return None
    return bool(mode & stat.S_IRUSR), bool(mode & stat.S_IWUSR)


def about(tid: Tid, fd: int) -> FileStatus | Unavailable:
    """Kind and inode of what is open, by the descriptor's own link: nothing is opened, and no server is waited for."""
    path = f"/proc/{tid}/fd/{fd}"
    try:
        return status(_AT_FDCWD, path.encode())
    except OSError as problem:
        return proc.unavailable(problem, path)


def same_file(one: Holding, other: Holding) -> bool:
    """Whether two descriptors are one open file description: dup(2), fork(2) or a message brought it there."""
    return order(one.tid, one.fd, other.tid, other.fd) == Order.EQUAL


def numbers(tid: Tid) -> list[int] | Unavailable:
    """The descriptors of a task."""
    path = f"/proc/{tid}/fd"
    try:
        return sorted(map(int, os.listdir(path)))
    except OSError as problem:
        if problem.errno in (1, 13):
            return Unavailable(problem.errno, f"its descriptors may not be read: {kcmp.access_rule(tid)}")
        return proc.unavailable(problem, path)


def held_by(pid: Pid, tid: Tid | None = None) -> Iterator[Holding]:
    """What a process has open. OSError where its table may not be read, or is gone."""
    reader = Tid(int(pid)) if tid is None else tid
    folder = f"/proc/{reader}/fd"
    for name in os.listdir(folder):
        try:
            yield Holding(pid, reader, Fd(int(name)), os.readlink(os.fsencode(f"{folder}/{name}")))
        except FileNotFoundError:
            continue  # closed since


class Tables:
    """The tables of all processes, each read once."""

    def __init__(self) -> None:
        self._by_target: dict[bytes, list[Holding]] = {}
        self._paths: dict[bytes, list[Holding]] = {}
        self._known: set[Pid] = set()
        self.unread: dict[Pid, Unavailable] = {}
        """Whose tables may not be read, and why."""
        self._complete = False

    def holders(self, wanted: bytes) -> list[Holding]:
        """Who has a pipe, a socket or an anonymous inode open, by the name that /proc has for it."""
        self.read_all()
        return self._by_target.get(wanted, [])

    def files(self, path: bytes, file: FileStatus) -> list[Holding]:
        """Who has a file open: by its path, and by its inode where that is another's by now."""
        self.read_all()
        found = []
        for holding in self._paths.get(path, []):
            other = about(holding.tid, holding.fd)
            if not isinstance(other, Unavailable) and (other.device, other.inode) == (file.device, file.inode):
                found.append(holding)
        return found

    def everything(self, *paths: bytes) -> list[Holding]:
        """Who has a file of one of these names open, whatever it is."""
        self.read_all()
        return [each for path in paths for each in self._paths.get(path, [])]

    def sockets(self) -> list[Holding]:
        """All sockets that anybody has open."""
        self.read_all()
        return [each for name, held in self._by_target.items() if name.startswith(b"socket:") for each in held]

    def anonymous(self, kind: bytes) -> list[Holding]:
        """All anonymous inodes of a kind (``anon_inode:[eventfd]``), which have one name in common."""
        return self.holders(kind)

    def read_all(self) -> None:
        """Read every table that has not been read. Processes that were made meanwhile are looked for until none is."""
        if self._complete:
            return
        for _round in range(8):
            new = [pid for pid in tasks.all_pids() if pid not in self._known]
            if not new:
                break
            self.read(new)
        self._complete = True

    def read(self, pids: Iterable[Pid]) -> None:
        """Read the tables of some processes."""
        for pid in pids:
            if pid in self._known:
                continue
            self._known.add(pid)
            try:
                self._take(held_by(pid))
            except OSError as problem:
                self._refused(pid, problem)

    def _take(self, held: Iterable[Holding]) -> None:
        for holding in held:
            where = self._by_target if holding.target.startswith(_NAMED) else self._paths
            where.setdefault(holding.target, []).append(holding)

    def _refused(self, pid: Pid, problem: OSError) -> None:
        if problem.errno in (1, 13):
            self.unread[pid] = Unavailable(problem.errno, kcmp.access_rule(Tid(int(pid))))
            # A process whose first thread has ended has its table with the others.
        elif problem.errno == 2 and os.path.lexists(f"/proc/{pid}"):
            others = tasks.thread_ids(pid)
            for tid in [] if isinstance(others, Unavailable) else others[1:]:
                try:
                    self._take(held_by(pid, tid))
                except OSError:
                    continue
                return

    def fresh(self) -> Tables:
        """Another, that has read nothing yet."""
        return Tables()


def kind_name(raw: bytes) -> str:
    """The kind of a descriptor by /proc's name for it, for messages."""
    kind, _ = by_name(raw)
    return "file" if kind is None else str(kind)
