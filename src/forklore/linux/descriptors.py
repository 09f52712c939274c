"""The descriptors of a task: /proc/TID/fd and fdinfo (proc_pid_fd(5), proc_pid_fdinfo(5)), and kcmp(KCMP_FILE).

A descriptor is a number in a table; the open file description behind it holds offset and status flags and can be
common to many tables. A pipe's two ends are two descriptions of one inode.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, Self

from msgspec import Struct

from forklore.abi.kcmp import KcmpType
from forklore.abi.patterns import regex
from forklore.abi.resources import NAMESPACES
from forklore.abi.syscalls import number
from forklore.abi.units import Fd, Tid, Unavailable
from forklore.linux.files.file_calls import status
from forklore.linux.kcmp import Order, refused
from forklore.linux.libc import syscall
from forklore.linux.proc import machine

_FDINFO: Final = 1024
"""Bytes of fdinfo that are read: what matters comes first, and epoll's list of targets can be long."""
_O_CLOEXEC: Final = os.O_CLOEXEC
_NUMBERED: Final = regex(rb"([a-z_]+):\[([0-9]+)\]")
_TTY_MAJORS: Final = frozenset({4, 5, *range(136, 144)})
"""Documentation/admin-guide/devices.txt: consoles and serial lines, /dev/tty and ptmx, pseudo-terminals."""


class DescriptorKind(StrEnum):
    """What a descriptor refers to."""

    FILE = "file"
    DIRECTORY = "directory"
    PIPE = "pipe"
    FIFO = "fifo"
    """A pipe with a name in a file system."""
    SOCKET = "socket"
    TTY = "tty"
    DEVICE = "device"
    """Any other character or block device."""
    MEMFD = "memfd"
    EVENTFD = "eventfd"
    EPOLL = "epoll"
    TIMERFD = "timerfd"
    SIGNALFD = "signalfd"
    INOTIFY = "inotify"
    FANOTIFY = "fanotify"
    IO_URING = "io_uring"
    USERFAULTFD = "userfaultfd"
    PERF = "perf"
    BPF = "bpf"
    PIDFD = "pidfd"
    NAMESPACE = "namespace"
    OTHER = "other"
    """See the target: another anonymous inode, or a path that could not be looked at."""


_ANONYMOUS: Final = {
    b"[eventfd]": DescriptorKind.EVENTFD, b"[eventpoll]": DescriptorKind.EPOLL,
    b"[timerfd]": DescriptorKind.TIMERFD, b"[signalfd]": DescriptorKind.SIGNALFD,
    b"[pidfd]": DescriptorKind.PIDFD, b"[io_uring]": DescriptorKind.IO_URING,
    b"[userfaultfd]": DescriptorKind.USERFAULTFD,
    b"[perf_event]": DescriptorKind.PERF, b"[fanotify]": DescriptorKind.FANOTIFY, b"inotify": DescriptorKind.INOTIFY,
}  # fmt: skip
_NUMBERED_KINDS: Final = {
    b"pipe": DescriptorKind.PIPE, b"socket": DescriptorKind.SOCKET, b"pidfd": DescriptorKind.PIDFD,
    **{name.encode(): DescriptorKind.NAMESPACE for name in NAMESPACES},
}  # fmt: skip
_PATH_KINDS: Final = {
    stat.S_IFREG: DescriptorKind.FILE, stat.S_IFDIR: DescriptorKind.DIRECTORY, stat.S_IFIFO: DescriptorKind.FIFO,
    stat.S_IFSOCK: DescriptorKind.SOCKET,
    stat.S_IFCHR: DescriptorKind.DEVICE, stat.S_IFBLK: DescriptorKind.DEVICE,
}  # fmt: skip


class Inode(Struct, frozen=True, gc=False):
    """Which inode: equal for two descriptors of one file, pipe or socket. ``device`` is 0 for what has no name."""

    device: int
    number: int


class Descriptor(Struct, frozen=True, gc=False):
    """One entry of a descriptor table. What fdinfo or the inode do not tell is None."""

    fd: Fd
    kind: DescriptorKind
    target: bytes
    """As /proc names it: a path in the reader's mount namespace, ``pipe:[123]``, ``anon_inode:[eventpoll]``."""
    cloexec: bool | None
    flags: int | None
    """Status flags and access mode (open(2)), without O_CLOEXEC, which belongs to the descriptor."""
    position: int | None
    inode: Inode | None


class Raw(Struct, frozen=True, gc=False):
    """One entry as /proc gave it: to understand it can wait."""

    fd: Fd
    target: bytes
    info: bytes
    """fdinfo; empty where it could not be read."""
    about: tuple[DescriptorKind, Inode, int] | None
    """Of a path: kind, inode and link count."""

    def described(self) -> Descriptor:
        """What it says."""
        target = self.target
        kind, inode = by_name(target)
        if kind is None:
            kind = DescriptorKind.OTHER
            if self.about is not None:
                kind, inode, links = self.about
                if target.startswith(b"/memfd:") and links == 0:
                    kind = DescriptorKind.MEMFD
        position, flags = _numbers(self.info)
        return Descriptor(
            fd=self.fd,
            kind=kind,
            target=target,
            cloexec=None if flags is None else bool(flags & _O_CLOEXEC),
            flags=None if flags is None else flags & ~_O_CLOEXEC,
            position=position,
            inode=inode,
        )


class Reader:
    """Reads a task's table in parts, as a context manager; OSError if there is no such task, or it may not be read.

    A task that ends meanwhile is not taken for another that gets its number: its table is empty then, or not there.
    """

    def __init__(self, tid: Tid) -> None:
        self._tid = tid

    def __enter__(self) -> Self:
        self._task = os.open(f"/proc/{self._tid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_how: object) -> None:
        os.close(self._task)

    def numbers(self) -> list[int]:
        """What is open, in order. OSError as above."""
        return sorted(map(int, os.listdir(f"/proc/{self._tid}/fd")))

    def targets(self, numbers: Iterable[int]) -> dict[Fd, bytes]:
        """What each refers to, as /proc names it; nothing of one that was closed since."""
        found: dict[Fd, bytes] = {}
        for fd in numbers:
            try:
                # Bytes, because the answer is of the type of the question.
                found[Fd(fd)] = os.readlink(b"fd/%d" % fd, dir_fd=self._task)
            except OSError:
                continue  # another task shares the table
        return found

    def raw(self, fd: Fd, target: bytes) -> Raw:
        """All of one entry, of which the target is known."""
        named = not target.startswith(b"/") and by_name(target)[0] is not None
        about = None if named else self.about(fd)
        return Raw(fd, target, self.info(fd), about)

    def about(self, fd: Fd) -> tuple[DescriptorKind, Inode, int] | None:
        """Kind, inode and link count of what is open."""
        return _status(self._task, b"fd/%d" % fd)

    def info(self, fd: Fd) -> bytes:
        """The beginning of its fdinfo; empty if it cannot be read."""
        try:
            info = os.open(b"fdinfo/%d" % fd, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._task)
        except OSError:
            return b""
        try:
            return os.read(info, _FDINFO)
        except OSError:
            return b""
        finally:
            os.close(info)


_STANDARD: Final = frozenset({0, 1, 2})


def only_standard(targets: dict[Fd, bytes]) -> bool:
    """Whether nothing is open but 0, 1 and 2, and none of them a pipe: the common case."""
    return targets.keys() <= _STANDARD and not any(target.startswith(b"pipe:") for target in targets.values())


def cloexec(info: bytes) -> bool | None:
    """Whether the descriptor of a fdinfo file is closed on exec; None where it does not say."""
    flags = _numbers(info)[1]
    return None if flags is None else bool(flags & _O_CLOEXEC)


_FIRST: Final = regex(rb"pos:\t([0-9]+)\nflags:\t([0-7]+)\n")
"""How fdinfo begins (fs/proc/fd.c: seq_show)."""


def _numbers(info: bytes) -> tuple[int | None, int | None]:
    # Position and flags. The expression takes a sixth of the time that the fields do.
    usual = _FIRST.match(info)
    if usual is not None:
        return int(usual[1]), int(usual[2], 8)
    fields = parse_fdinfo(info)
    return _value(fields, b"pos"), _value(fields, b"flags", 8)


def parse_fdinfo(raw: bytes) -> dict[bytes, bytes]:
    """The fields of a fdinfo file; of those that come several times (epoll's tfd, inotify's wd) the first."""
    fields: dict[bytes, bytes] = {}
    for line in raw.splitlines():
        name, colon, value = line.partition(b":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _value(info: dict[bytes, bytes], name: bytes, base: int = 10) -> int | None:
    try:
        return int(info[name], base)
    except (KeyError, ValueError):
        return None


def by_name(target: bytes) -> tuple[DescriptorKind | None, Inode | None]:
    """The kind and inode that /proc's name of a descriptor tells; a kind of None for a path, which tells nothing."""
    numbered = _NUMBERED.fullmatch(target)
    if numbered is not None:
        kind = _NUMBERED_KINDS.get(numbered[1], DescriptorKind.OTHER)
        return kind, Inode(0, int(numbered[2]))
    if target.startswith(b"anon_inode:"):
        name = target.removeprefix(b"anon_inode:")
        return _ANONYMOUS.get(
            name, DescriptorKind.BPF if name.startswith((b"bpf", b"[bpf")) else DescriptorKind.OTHER
        ), None
    return None, None


_arch: Final = machine()
_NR_KCMP: Final = None if _arch is None else number(_arch, "kcmp")


def _status(folder: int, path: bytes) -> tuple[DescriptorKind, Inode, int] | None:
    try:
        found = status(folder, path)
    except OSError:
        return None
    kind = _PATH_KINDS.get(stat.S_IFMT(found.mode), DescriptorKind.OTHER)
    if stat.S_ISCHR(found.mode) and found.special[0] in _TTY_MAJORS:
        kind = DescriptorKind.TTY
    return kind, Inode(os.makedev(*found.device), found.inode), found.links


def order(tid_a: Tid, fd_a: Fd, tid_b: Tid, fd_b: Fd) -> Order | Unavailable:
    """How two open file descriptions sort: EQUAL is one and the same. With an order n of them group in n log n."""
    if _NR_KCMP is None:
        return Unavailable(errno.ENOSYS, "kcmp(2) has no number that is known on this machine")
    answer: int = syscall(_NR_KCMP, tid_a, tid_b, KcmpType.FILE, fd_a, fd_b, 0)
    if answer >= 0:
        return Order(answer)
    problem = ctypes.get_errno()
    if problem == errno.EBADF:
        return Unavailable(problem, f"EBADF: {tid_a} has no descriptor {fd_a}, or {tid_b} no {fd_b}")
    return refused(tid_a, tid_b, problem)


_SLOT: Final = struct.Struct("=III")
"""include/uapi/linux/kcmp.h: struct kcmp_epoll_slot."""


def epoll_target(tid: Tid, epoll: int, fd: int, again: int = 0) -> Order | None:
    """Whether what an epoll of a task watches by a number is what that number leads to now; None: it is not known.

    fdinfo tells the number that the file had when it was added (fs/eventpoll.c), and a file stays watched as long as
    any descriptor is open of it. ``again``: which of several entries of that number.
    """
    if _NR_KCMP is None:
        return None
    slot = ctypes.create_string_buffer(_SLOT.pack(epoll, fd, again))
    answer: int = syscall(_NR_KCMP, tid, tid, KcmpType.EPOLL_TFD, fd, ctypes.addressof(slot), 0)
    if answer >= 0:
        return Order(answer)
    return Order.UNEQUAL if ctypes.get_errno() in (errno.EBADF, errno.ENOENT) else None
