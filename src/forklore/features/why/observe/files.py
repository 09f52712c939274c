"""Waits on a descriptor: what it leads to, and who holds the other end."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from forklore.abi.text import printable
from forklore.abi.units import Nanoseconds, Pid, Tid, Unavailable
from forklore.features.why.graph import Ender, Held, Role, WaitKind
from forklore.features.why.observe.machine import Machine
from forklore.features.why.observe.words import signal_names
from forklore.linux.waits import tables
from forklore.linux.waits.look import Look
from forklore.linux.waits.sock_diag import ESTABLISHED, LISTEN, InetSocket, UnixSocket
from forklore.linux.waits.tables import Holding, Info

_TTY_MAJOR: Final = range(136, 144)
_PTMX: Final = (5, 2)
_RCVTIMEO = "a receive timeout of the socket (SO_RCVTIMEO) cannot be seen from outside"
_NUMBERED: Final = re.compile(rb"(pipe|socket):\[(\d+)\]")
_MOST_TRACED: Final = 8
"""Holders whose way to the descriptor is looked for."""


class Awaited(Struct, frozen=True):
    """What a descriptor is waited for."""

    what: str
    """``the end of pipe:[4711], which is empty``."""
    kind: WaitKind
    enders: tuple[Ender, ...] = ()
    closed: bool = False
    beyond: str = ""
    object: str | None = None
    idle: bool = False
    timed: bool = False
    ends_in: Nanoseconds | None = None


class Files:
    """Finds out what is behind descriptors."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def awaited(self, task: Look, fd: int, *, write: bool) -> Awaited:
        """What a task waits for that reads from (or writes to) a descriptor."""
        reader = task.tid
        target = tables.target(reader, fd)
        kind = WaitKind.WRITE if write else WaitKind.READ
        if isinstance(target, Unavailable):
            return Awaited(f"descriptor {fd}", kind, beyond=f"what it leads to may not be read ({target.why})")
        numbered = _NUMBERED.fullmatch(target)
        if numbered is not None and numbered[1] == b"pipe":
            return self._pipe(task, fd, target, self._machine.tables.holders(target), write=write)
        if numbered is not None:
            return self._socket(task, fd, target, int(numbered[2]), write=write)
        if target.startswith(b"anon_inode:"):
            return self._anonymous(task, fd, target)
        return self._path(task, fd, target, write=write)

    # Pipes

    def _pipe(
        self, task: Look, fd: int, target: bytes, holders: Iterable[Holding], *, write: bool, fifo: bool = False
    ) -> Awaited:
        role = Role.READER if write else Role.WRITER
        enders = self._held(task, [each for each in holders if _open_for(each, write=not write)], role)
        name = printable(target)
        state = "which is full" if write else "which is empty"
        what = f"room in {name}, {state}" if write else f"data or the end of {name}, {state}"
        kind = WaitKind.WRITE if write else WaitKind.READ
        beyond = "whoever opens it by its name" if fifo else "" if enders else "nobody is seen to hold its other end"
        return Awaited(what, kind, enders, closed=bool(enders) and not fifo, beyond=beyond, object=name)

    def _held(self, task: Look, holders: list[Holding], role: Role) -> tuple[Ender, ...]:
        by_process: dict[Pid, list[Holding]] = {}
        for each in holders:
            by_process.setdefault(each.pid, []).append(each)
        found: list[Ender] = []
        for pid, held in by_process.items():
            told = tuple(self._told(task, each, trace=len(found) < _MOST_TRACED) for each in held)
            found.append(Ender(pid, None, role, told))
        return tuple(found)

    def _told(self, task: Look, held: Holding, *, trace: bool) -> Held:
        info = tables.info(held.tid, held.fd)
        cloexec = None if isinstance(info, Unavailable) else info.cloexec
        origin = self._origin(task, held) if trace and held.pid != task.pid else ""
        return Held(held.fd, cloexec, origin)

    def _origin(self, task: Look, held: Holding) -> str:
        """Where a process has a descriptor from, as far as those that live show."""
        same = [each for each in self._machine.tables.holders(held.target) if each.pid != held.pid]
        known: set[Pid] = set()
        look = self._machine.look(held.tid)
        pid = held.pid
        while not isinstance(look, Unavailable) and look.ppid and look.ppid not in known:
            known.add(look.ppid)
            pid = look.ppid
            for each in same:
                if each.pid == pid and tables.same_file(each, held):
                    return f"inherited from {pid} {self.name(pid)}, which has it as fd {each.fd}"
            look = self._machine.look(Tid(int(pid)))
        for each in same:
            if tables.same_file(each, held):
                return f"the same open file as fd {each.fd} of {each.pid} {self.name(each.pid)}"
        return "whoever passed it on has ended or closed it"

    def name(self, pid: Pid) -> str:
        """A process's name."""
        look = self._machine.look(Tid(int(pid)))
        return "?" if isinstance(look, Unavailable) else printable(look.name)

    # Sockets

    def _socket(self, task: Look, fd: int, target: bytes, inode: int, *, write: bool) -> Awaited:
        kind = WaitKind.WRITE if write else WaitKind.READ
        name = printable(target)
        unix = self._machine.unix
        if not isinstance(unix, Unavailable) and inode in unix:
            return self._unix(task, unix[inode], kind, name, unix)
        tcp = self._machine.tcp_by_inode.get(inode)
        if tcp is not None:
            return self._tcp(task, tcp, kind, name)
        if not self._machine.network(task.tid):
            beyond = "it is of another network namespace, whose sockets are not asked for"
        elif isinstance(unix, Unavailable):
            beyond = unix.why
        else:
            beyond = "whoever sends to it"
        return Awaited(f"{'room in' if write else 'data on'} {name}", kind, beyond=beyond, object=name)

    def _unix(
        self, task: Look, found: UnixSocket, kind: WaitKind, name: str, sockets: dict[int, UnixSocket]
    ) -> Awaited:
        if found.state == LISTEN:
            where = f" {printable(found.name)}" if found.name else ""
            what = f"connections on the Unix socket{where}"
            return Awaited(what, WaitKind.CONNECTION, beyond="any client", object=name, idle=True)
        way = "room in" if kind is WaitKind.WRITE else "data on"
        if not found.peer:
            where = f" {printable(found.name)}" if found.name else ""
            return Awaited(f"{way} the Unix socket{where} ({name})", kind, beyond="whoever sends to it", object=name)
        peer = f"socket:[{found.peer}]".encode()
        enders = self._held(task, self._machine.tables.holders(peer), Role.PEER)
        mine = self._held(task, self._machine.tables.holders(name.encode()), Role.PEER)
        peers = {each.pid for each in enders}
        other = sockets.get(found.peer)
        named = other.name or found.name if other is not None else found.name
        where = f" {printable(named)}" if named else ""
        what = f"{way} the Unix socket{where} ({name}), whose peer is socket:[{found.peer}]"
        accepted = "" if enders else "the connection has not been accepted, or its peer is on its way in a message"
        # Who has this end, too, could shut it down.
        both = (*enders, *(each for each in mine if each.pid not in peers and each.pid != task.pid))
        return Awaited(what, kind, both, beyond=accepted or _RCVTIMEO, object=name)

    def _tcp(self, task: Look, found: InetSocket, kind: WaitKind, name: str) -> Awaited:
        local, remote = (f"{address}:{port}" for address, port in (found.local, found.remote))
        if found.state == LISTEN:
            what = f"connections on TCP {local}"
            return Awaited(what, WaitKind.CONNECTION, beyond="any client", object=name, idle=True)
        way = "room in the connection" if kind is WaitKind.WRITE else "data on the connection"
        if found.state != ESTABLISHED and kind is WaitKind.CONNECT:
            return Awaited(f"an answer of TCP {remote}", kind, beyond=f"{remote}", object=name)
        peers = [
            each for each in self._machine.tcp_by_inode.values()
            if each.local == found.remote and each.remote == found.local and each.inode != found.inode
        ]  # fmt: skip
        holders = [held for each in peers for held in self._machine.tables.holders(b"socket:[%d]" % each.inode)]
        enders = self._held(task, holders, Role.PEER)
        what = f"{way} TCP {local} ↔ {remote}"
        beyond = _RCVTIMEO if enders else f"its peer is {remote}, on another machine or in another network namespace"
        return Awaited(what, kind, enders, beyond=beyond, object=name)

    # Everything else

    def _anonymous(self, task: Look, fd: int, target: bytes) -> Awaited:
        info = tables.info(task.tid, fd)
        lines = Info(()) if isinstance(info, Unavailable) else info
        what = printable(target.removeprefix(b"anon_inode:").strip(b"[]"))
        if what == "eventfd":
            return self._eventfd(task, lines)
        if what == "timerfd":
            return _timerfd(lines)
        if what == "signalfd":
            mask = lines.number(b"sigmask", 16) or 0
            return Awaited(f"a signal ({signal_names(mask)})", WaitKind.SIGNAL, beyond="whoever sends one")
        if what == "pidfd":
            return self._pidfd(lines)
        if what == "inotify":
            return Awaited(
                "a change of the files that it watches", WaitKind.READ, beyond="whoever changes one", idle=True
            )
        return Awaited(
            f"descriptor {fd} ({what})", WaitKind.READ, beyond=f"what a descriptor of that kind ({what}) tells"
        )

    def _eventfd(self, task: Look, lines: Info) -> Awaited:
        number = lines.number(b"eventfd-id")
        holders = []
        for each in self._machine.tables.anonymous(b"anon_inode:[eventfd]"):
            other = tables.info(each.tid, each.fd)
            if number is not None and not isinstance(other, Unavailable) and other.number(b"eventfd-id") == number:
                holders.append(each)
        enders = self._held(task, holders, Role.WRITER)
        beyond = "the kernel can count an eventfd up as well (asynchronous I/O, KVM)"
        return Awaited(
            f"an event on eventfd {number}", WaitKind.READ, enders, beyond=beyond, object=f"eventfd {number}"
        )

    def _pidfd(self, lines: Info) -> Awaited:
        pid = lines.number(b"Pid")
        if pid is None or pid <= 0:
            return Awaited("the end of a process that has ended", WaitKind.PROCESS, beyond="")
        what = f"the end of {pid} {self.name(Pid(pid))}"
        return Awaited(what, WaitKind.PROCESS, (Ender(Pid(pid), None, Role.PROCESS),), closed=True, object=f"pid {pid}")

    def _path(self, task: Look, fd: int, target: bytes, *, write: bool) -> Awaited:
        about = tables.about(task.tid, fd)
        if isinstance(about, Unavailable):
            return Awaited(printable(target), WaitKind.UNKNOWN, beyond=about.why)
        if stat.S_ISFIFO(about.mode):
            holders = self._machine.tables.files(target, about)
            return self._pipe(task, fd, target, holders, write=write, fifo=True)
        if stat.S_ISCHR(about.mode):
            return self._device(task, fd, target, about.special, write=write)
        kind = WaitKind.KERNEL
        return Awaited(f"the file {printable(target)}", kind, beyond="the file system")

    def _master(self, task: Look, fd: int, *, write: bool) -> Awaited:
        info = tables.info(task.tid, fd)
        index = None if isinstance(info, Unavailable) else info.number(b"tty-index")
        name = f"/dev/pts/{index}"
        slaves = [] if index is None else self._machine.tables.everything(name.encode())
        enders = self._held(task, slaves, Role.READER if write else Role.WRITER)
        what = (
            f"room in the terminal {name}" if write else f"output on the terminal {name}, or its last user to close it"
        )
        return Awaited(what, WaitKind.WRITE if write else WaitKind.READ, enders, beyond="whoever opens it by its name",
                       object=f"the master of {name}")  # fmt: skip

    def _device(self, task: Look, fd: int, target: bytes, number: tuple[int, int], *, write: bool) -> Awaited:
        name = printable(target)
        if number == _PTMX:
            return self._master(task, fd, write=write)
        if number[0] in _TTY_MAJOR:
            index = number[1] + 256 * (number[0] - _TTY_MAJOR.start)
            masters = [
                each for each in self._machine.tables.everything(b"/dev/ptmx", b"/dev/pts/ptmx")
                if _tty_index(each) == index
            ]  # fmt: skip
            enders = self._held(task, masters, Role.PEER)
            if write:
                return Awaited(
                    f"room in the terminal {name}", WaitKind.WRITE, enders, beyond="the terminal", object=name
                )
            return Awaited(f"somebody to type on {name}", WaitKind.INPUT, enders, beyond="who types there", object=name)
        if number[0] in (4, 5):
            return Awaited(f"somebody to type on {name}", WaitKind.INPUT, beyond="who types there", object=name)
        return Awaited(f"the device {name}", WaitKind.READ, beyond="the device", object=name)


def _open_for(held: Holding, *, write: bool) -> bool:
    access = tables.access(held.tid, held.fd)
    return access is not None and access[write]


def _tty_index(held: Holding) -> int | None:
    info = tables.info(held.tid, held.fd)
    return None if isinstance(info, Unavailable) else info.number(b"tty-index")


def _timerfd(lines: Info) -> Awaited:
    value = lines.first(b"it_value") or b""
    words = re.findall(rb"\d+", value)
    left = int(words[0]) * 1_000_000_000 + int(words[1]) if len(words) == 2 else 0
    if left:
        return Awaited("a timer", WaitKind.TIME, timed=True, ends_in=Nanoseconds(left))
    return Awaited("a timer that is not set", WaitKind.READ, beyond="whoever sets it")
