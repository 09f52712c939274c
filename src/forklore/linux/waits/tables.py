"""Who holds what: the descriptor tables of all processes, by what lies behind each descriptor.

A table is read when the process is asked about; the index is of the whole machine, for a pipe's other end may be
anywhere. What may not be read is counted with its reason.
"""

from __future__ import annotations

import os
import stat
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final

from msgspec import Struct

from forklore.abi.units import Fd, Pid, Tid, Unavailable
from forklore.linux import kcmp, proc, tasks
from forklore.linux.descriptors import order
from forklore.linux.files.file_calls import FileStatus, status
from forklore.linux.kcmp import Order

_AT_FDCWD: Final = -100
_INFO: Final = 1 << 16
_O_CLOEXEC: Final = os.O_CLOEXEC
_FD_BITS: Final = 31
_FD: Final = (1 << _FD_BITS) - 1
_LIKELY: Final = 24
"""Processes that are asked by chance where there was no time to ask all."""
_OFTEN: Final = 512
"""So many descriptors are read before the time is looked at again."""


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


class Tables:
    """The tables of all processes, each read once.

    Of each descriptor 8 bytes are kept: a machine may have millions. ``patience``: seconds of processor time that
    reading all of them may take (a busy machine does not make it less that is read); what is left then is counted in
    ``cut``. ``first``: whose tables are read before the others'.
    """

    def __init__(self, patience: float = 20.0, first: Iterable[Pid] = ()) -> None:
        self._first = dict.fromkeys(first)
        self._index: dict[bytes, array[int]] = {}
        self._sorted: set[bytes] = set()
        self._known: set[Pid] = set()
        self._readers: dict[Pid, Tid] = {}
        self.unread: dict[Pid, Unavailable] = {}
        """Whose tables may not be read, and why."""
        self._left: dict[Pid, None] = {}
        self._patience = patience
        self._complete = False

    def holders(self, wanted: bytes, first: Pid | None = None) -> Iterator[Holding]:
        """Who has something open, by the name that /proc has for it, in the order of pids; one process before others.

        Anonymous inodes of a kind (``anon_inode:[eventfd]``) have one name in common.
        """
        packed = self._packed(wanted)
        start, end = (0, 0) if first is None else self._range(packed, first)
        for each in chain(packed[start:end], islice(packed, start), islice(packed, end, None)):
            yield self._holding(each, wanted)
        if self._left and packed:
            yield from self._likely(wanted, {each & _FD for each in packed[:_LIKELY]}, first)

    def _likely(self, wanted: bytes, numbers: set[int], first: Pid | None) -> Iterator[Holding]:
        # Of those whose tables were not read some are asked for the numbers that others have it by, as they have it who
        # inherited it from one process.
        before = [] if first is None or first not in self._left else [first]
        for pid in islice(chain(before, (pid for pid in self._left if pid != first)), _LIKELY):
            for fd in numbers:
                if target(Tid(int(pid)), fd) == wanted:
                    yield Holding(pid, Tid(int(pid)), Fd(fd), wanted)

    @property
    def cut(self) -> int:
        """Processes whose tables were not read, or not to their end, for want of time."""
        return len(self._left)

    def has(self, pid: Pid, wanted: bytes) -> bool:
        """Whether a process has something of that name open."""
        start, end = self._range(self._packed(wanted), pid)
        return start < end

    def files(self, path: bytes, file: FileStatus) -> list[Holding]:
        """Who has a file open: by its path, and by its inode where that is another's by now."""
        found = []
        for holding in self.holders(path):
            other = about(holding.tid, holding.fd)
            if not isinstance(other, Unavailable) and (other.device, other.inode) == (file.device, file.inode):
                found.append(holding)
        return found

    def sockets(self) -> Iterator[list[Holding]]:
        """Of each socket that anybody has open all who have it."""
        self.read_all()
        for name in [name for name in self._index if name.startswith(b"socket:")]:
            yield list(self.holders(name))

    def _packed(self, wanted: bytes) -> array[int]:
        self.read_all()
        found = self._index.get(wanted)
        if found is None:
            return array("Q")
        if wanted not in self._sorted:
            found = self._index[wanted] = array("Q", sorted(found))
            self._sorted.add(wanted)
        return found

    @staticmethod
    def _range(packed: array[int], pid: Pid) -> tuple[int, int]:
        return bisect_left(packed, pid << _FD_BITS), bisect_left(packed, pid + 1 << _FD_BITS)

    def _holding(self, packed: int, target: bytes) -> Holding:
        pid = Pid(packed >> _FD_BITS)
        return Holding(pid, self._readers.get(pid, Tid(int(pid))), Fd(packed & _FD), target)

    def read_all(self) -> None:
        """Read every table that has not been read. Processes that were made meanwhile are looked for until none is."""
        if self._complete:
            return
        end = time.thread_time() + self._patience
        for _round in range(8):
            new = {pid for pid in tasks.all_pids() if pid not in self._known}
            if not new:
                break
            for pid in [*(pid for pid in self._first if pid in new), *sorted(new - self._first.keys())]:
                self._known.add(pid)
                if time.thread_time() > end or not self._read(pid, end):
                    self._left[pid] = None
        self._complete = True

    def _read(self, pid: Pid, end: float) -> bool:
        """Read the table of a process; False: there was no time for all of it."""
        try:
            return self._take(pid, Tid(int(pid)), end)
        except OSError as problem:
            return self._refused(pid, problem, end)

    def _take(self, pid: Pid, tid: Tid, end: float) -> bool:
        folder = os.open(f"/proc/{tid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        index, readlink, high = self._index, os.readlink, pid << _FD_BITS
        try:
            for count, name in enumerate(os.listdir(folder)):
                try:
                    target = readlink(name.encode(), dir_fd=folder)
                except FileNotFoundError:
                    continue  # closed since
                known = index.get(target)
                if known is None:
                    known = index[target] = array("Q")
                known.append(high | int(name))
                if count % _OFTEN == _OFTEN - 1 and time.thread_time() > end:
                    return False
        finally:
            os.close(folder)
        return True

    def _refused(self, pid: Pid, problem: OSError, end: float) -> bool:
        if problem.errno in (1, 13):
            self.unread[pid] = Unavailable(problem.errno, kcmp.access_rule(Tid(int(pid))))
        elif problem.errno == 2 and os.path.lexists(f"/proc/{pid}"):
            # A process whose first thread has ended has its table with the others.
            others = tasks.thread_ids(pid)
            for tid in [] if isinstance(others, Unavailable) else others[1:]:
                self._readers[pid] = tid
                try:
                    return self._take(pid, tid, end)
                except OSError:
                    continue
        return True

    def fresh(self) -> Tables:
        """Another, that has read nothing yet."""
        return Tables(self._patience, self._first)
