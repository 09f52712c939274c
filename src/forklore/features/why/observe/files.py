"""Waits on a descriptor: what it leads to, and who holds the other end. Sockets have a module of their own."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct, structs

from forklore.abi.text import printable
from forklore.abi.units import Nanoseconds, Pid, Unavailable
from forklore.features.why.graph import Ender, PipeEnd, Role, WaitKind
from forklore.features.why.observe.awaited import Awaited, Holders, merged
from forklore.features.why.observe.machine import Machine
from forklore.features.why.observe.sockets import Sockets
from forklore.features.why.observe.words import signal_names
from forklore.linux.descriptors import epoll_target
from forklore.linux.kcmp import Order
from forklore.linux.waits import tables
from forklore.linux.waits.look import Look
from forklore.linux.waits.tables import Holding, Info
from forklore.report.words.words import count

_TTY_MAJOR: Final = range(136, 144)
_PTMX: Final = (5, 2)
_NUMBERED: Final = re.compile(rb"(pipe|socket):\[(\d+)\]")
_POLLED: Final = 64
"""Descriptors of one poll that are looked at."""
_NESTED: Final = 5
"""EP_MAX_NESTS of fs/eventpoll.c: no epoll leads further."""
_NAMED: Final = 4


class Files:
    """Finds out what is behind descriptors."""

    def __init__(self, machine: Machine, *, brief: bool = False) -> None:
        self._machine = machine
        self._holders = Holders(machine, brief=brief)
        self._sockets = Sockets(machine, self._holders)

    def awaited(self, task: Look, fd: int, *, write: bool, depth: int = 0) -> Awaited:
        """What a task waits for that reads from (or writes to) a descriptor. ``depth``: of epolls that watch epolls."""
        reader = task.tid
        target = tables.target(reader, fd)
        kind = WaitKind.WRITE if write else WaitKind.READ
        if isinstance(target, Unavailable):
            return Awaited(f"descriptor {fd}", kind, beyond=f"what it leads to may not be read ({target.why})")
        numbered = _NUMBERED.fullmatch(target)
        if numbered is not None and numbered[1] == b"pipe":
            return self._pipe(task, target, self._machine.tables.holders(target, task.pid), write=write)
        if numbered is not None:
            return self._sockets.awaited(task, int(numbered[2]), write=write)
        if target.startswith(b"anon_inode:"):
            return self._anonymous(task, fd, target, depth)
        return self._path(task, fd, target, write=write)

    # Several descriptors

    def any_of(self, task: Look, polled: Sequence[Polled], depth: int = 0) -> Awaited:
        """What a task waits for that waits until any of several descriptors is ready."""
        told = [(each, self._one(task, each, depth)) for each in polled[:_POLLED]]
        if len(polled) == 1:
            return told[0][1]
        if not polled:
            return Awaited("an event, though no descriptor is watched", WaitKind.EVENTS, beyond="whoever adds one")
        what = "; ".join(f"fd {each.fd}: {found.what}" for each, found in told[:_NAMED])
        more = f" and {len(polled) - _NAMED} more" if len(polled) > _NAMED else ""
        open_ = [found for _each, found in told if not found.closed]
        times = [found.ends_in for _each, found in told if found.timed and found.ends_in is not None]
        return Awaited(
            f"any of {len(polled)} descriptors ({what}{more})", WaitKind.EVENTS,
            merged(found.enders for _each, found in told), closed=not open_ and len(polled) <= _POLLED,
            beyond=open_[0].beyond if open_ else "", idle=any(found.idle for _each, found in told),
            ends=tuple(end for _each, found in told for end in found.ends),
            timed=any(found.timed for _each, found in told), ends_in=min(times, default=None),
        )  # fmt: skip

    def _one(self, task: Look, polled: Polled, depth: int) -> Awaited:
        if polled.there:
            return self.awaited(task, polled.fd, write=polled.write, depth=depth)
        what = f"the file that was descriptor {polled.fd} when it was watched, and is closed there"
        return Awaited(what, WaitKind.READ, beyond="whoever has it now, which is not told")

    def _epolled(self, task: Look, epoll: int, polled: Polled) -> Polled:
        # A number in epoll's list is that of the time when it was added: the file lives on under others, and the
        # number may be another file's by now, or in another process's table.
        if epoll_target(task.tid, epoll, polled.fd, polled.again) in (Order.EQUAL, None):
            return polled
        return structs.replace(polled, there=False)

    def ring(self, task: Look, fd: int) -> Awaited:
        """What a task waits for that waits for completions of an io_uring."""
        info = tables.info(task.tid, fd)
        lines = Info(()) if isinstance(info, Unavailable) else info
        polls = sum(value.startswith(b"op=") for value in lines.all(b""))
        submitted = lines.number(b"SQEs")
        told = [f"{count(polls, 'request')} for an event on a descriptor"] if polls else []
        told += [f"{count(submitted, 'request')} not taken by the kernel yet"] if submitted else []
        words = f" ({', '.join(told)})" if told else ""
        return Awaited(f"completions of the io_uring that is descriptor {fd}{words}", WaitKind.EVENTS,
                       beyond="whatever its requests wait for, of which the kernel tells no descriptor")  # fmt: skip

    def connect(self, task: Look, fd: int, address: bytes | None) -> Awaited:
        """What a task waits for that connects a socket with an address (a struct sockaddr; None: not read)."""
        target = tables.target(task.tid, fd)
        numbered = None if isinstance(target, Unavailable) else _NUMBERED.fullmatch(target)
        if numbered is None or numbered[1] != b"socket":
            return Awaited(f"an answer on descriptor {fd}", WaitKind.CONNECT, beyond="whoever is connected to")
        return self._sockets.connect(task, int(numbered[2]), address)

    # Pipes

    def _pipe(
        self, task: Look, target: bytes, holders: Iterable[Holding], *, write: bool, fifo: bool = False
    ) -> Awaited:
        role = Role.READER if write else Role.WRITER
        enders = self._holders.told(
            task, (each for each in holders if self._machine.open_for(each, write=not write)), role
        )
        name = printable(target)
        state = "which is full" if write else "which is empty"
        what = f"room in {name}, {state}" if write else f"data or the end of {name}, {state}"
        kind = WaitKind.WRITE if write else WaitKind.READ
        if fifo:
            beyond = "whoever opens it by its name"
        else:
            beyond = self._holders.unnamed(enders) if enders else "nobody is seen to hold its other end"
        numbered = _NUMBERED.fullmatch(target)
        ends = () if numbered is None else (PipeEnd(name, int(numbered[2]), write=not write),)
        return Awaited(what, kind, enders, closed=not beyond, beyond=beyond, object=name, ends=ends)

    # Everything else

    def _anonymous(self, task: Look, fd: int, target: bytes, depth: int) -> Awaited:
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
            return self._pidfd(task, fd, lines)
        if what == "eventpoll":
            if isinstance(info, Unavailable) or depth >= _NESTED:
                return Awaited("events on descriptors, of which the list may not be read", WaitKind.EVENTS,
                               beyond="whoever causes one")  # fmt: skip
            return self.any_of(task, [self._epolled(task, fd, each) for each in polled(lines)], depth + 1)
        if what == "inotify":
            return Awaited(
                "a change of the files that it watches", WaitKind.READ, beyond="whoever changes one", idle=True
            )
        return Awaited(
            f"descriptor {fd} ({what})", WaitKind.READ, beyond=f"what a descriptor of that kind ({what}) tells"
        )

    def _eventfd(self, task: Look, lines: Info) -> Awaited:
        number = lines.number(b"eventfd-id")
        holders = [] if number is None else self._machine.eventfds.get(number, [])
        enders = self._holders.told(task, holders, Role.WRITER)
        beyond = "the kernel can count an eventfd up as well (asynchronous I/O, KVM)"
        return Awaited(
            f"an event on eventfd {number}", WaitKind.READ, enders, beyond=beyond, object=f"eventfd {number}"
        )

    def _pidfd(self, task: Look, fd: int, lines: Info) -> Awaited:
        pid = lines.number(b"Pid")
        if pid is None or pid <= 0:
            return Awaited("the end of a process that has ended", WaitKind.PROCESS, beyond="")
        name = self._holders.name(Pid(pid))
        again = tables.info(task.tid, fd)
        if isinstance(again, Unavailable) or again.number(b"Pid") != pid:
            return Awaited(f"the end of process {pid}, which has ended meanwhile", WaitKind.PROCESS, beyond="")
        what = f"the end of {pid} {name}"
        return Awaited(what, WaitKind.PROCESS, (Ender(Pid(pid), None, Role.PROCESS),), closed=True, object=f"pid {pid}")

    def _path(self, task: Look, fd: int, target: bytes, *, write: bool) -> Awaited:
        about = tables.about(task.tid, fd)
        if isinstance(about, Unavailable):
            return Awaited(printable(target), WaitKind.UNKNOWN, beyond=about.why)
        if stat.S_ISFIFO(about.mode):
            holders = self._machine.tables.files(target, about)
            return self._pipe(task, target, holders, write=write, fifo=True)
        if stat.S_ISCHR(about.mode):
            return self._device(task, fd, target, about.special, write=write)
        kind = WaitKind.KERNEL
        return Awaited(f"the file {printable(target)}", kind, beyond="the file system")

    def _master(self, task: Look, fd: int, *, write: bool) -> Awaited:
        info = tables.info(task.tid, fd)
        index = None if isinstance(info, Unavailable) else info.number(b"tty-index")
        name = f"/dev/pts/{index}"
        slaves = [] if index is None else self._machine.tables.holders(name.encode())
        enders = self._holders.told(task, slaves, Role.READER if write else Role.WRITER)
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
            enders = self._holders.told(task, self._machine.masters.get(index, []), Role.PEER)
            if write:
                return Awaited(
                    f"room in the terminal {name}", WaitKind.WRITE, enders, beyond="the terminal", object=name
                )
            return Awaited(f"somebody to type on {name}", WaitKind.INPUT, enders, beyond="who types there", object=name)
        if number[0] in (4, 5):
            return Awaited(f"somebody to type on {name}", WaitKind.INPUT, beyond="who types there", object=name)
        return Awaited(f"the device {name}", WaitKind.READ, beyond="the device", object=name)


class Polled(Struct, frozen=True):
    """A descriptor that is polled."""

    fd: int
    write: bool
    """For writing alone."""
    again: int = 0
    """How often that number stands before it in epoll's list: it was closed, and added again as another file."""
    there: bool = True
    """Whether the number still leads to the file."""


def polled(lines: Info) -> list[Polled]:
    """What an epoll watches: ``tfd:        5 events:       19 data: …`` (fs/eventpoll.c: ep_show_fdinfo)."""
    found: list[Polled] = []
    for line in lines.all(b"tfd"):
        words = line.split()
        if not words or not words[0].isdigit():
            continue
        fd, events = int(words[0]), int(words[2], 16) if len(words) > 2 else 1
        found.append(Polled(fd, bool(events & 4) and not events & 1, sum(each.fd == fd for each in found)))
    return found


def _timerfd(lines: Info) -> Awaited:
    value = lines.first(b"it_value") or b""
    words = re.findall(rb"\d+", value)
    left = int(words[0]) * 1_000_000_000 + int(words[1]) if len(words) == 2 else 0
    if left:
        return Awaited("a timer", WaitKind.TIME, timed=True, ends_in=Nanoseconds(left))
    return Awaited("a timer that is not set", WaitKind.READ, beyond="whoever sets it")
