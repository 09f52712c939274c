"""Waits for locks on files, SysV and POSIX queues and semaphores, time and signals."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Final

from forklore.abi.text import printable
from forklore.abi.units import LOW32, Pid, Tid, Unavailable, signed
from forklore.decode.waits.calls import F_OFD_SETLKW, F_SETLKW, F_SETLKW64
from forklore.features.why.graph import Ender, Held, Role, Wait, WaitKind
from forklore.features.why.observe.machine import Machine
from forklore.features.why.observe.words import signal_names
from forklore.linux import proc
from forklore.linux.files.file_calls import FileStatus
from forklore.linux.waits import sysv, tables
from forklore.linux.waits.file_locks import FileLock, parse_lock
from forklore.linux.waits.look import Look, RawCall, where
from forklore.linux.waits.tables import Holding

Read = Callable[[int, int], bytes | None]
_FIFO: Final = ("wait_for_partner", "fifo_open")
_COMMANDS: Final = {F_SETLKW, F_OFD_SETLKW, F_SETLKW64}


class Others:
    """Finds out who stands in the way."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def file_lock(self, task: Look, name: str, words: tuple[int, ...], read: Read) -> Wait | None:
        """flock(2) and fcntl(2) that wait; None: it is another fcntl."""
        if name != "flock" and signed(words[1]) not in _COMMANDS:
            return None
        fd = signed(words[0])
        target = tables.target(task.tid, fd)
        file = f"descriptor {fd}" if isinstance(target, Unavailable) else printable(target)
        locks = self._machine.locks
        if isinstance(locks, Unavailable):
            return Wait(WaitKind.FILE_LOCK, f"a lock on {file}", beyond=locks.why)
        about = tables.about(task.tid, fd)
        if isinstance(about, Unavailable):
            return Wait(WaitKind.FILE_LOCK, f"a lock on {file}", beyond=about.why)
        wanted = "FLOCK" if name == "flock" else "OFDLCK" if signed(words[1]) == F_OFD_SETLKW else "POSIX"
        mine = [each for each in locks if each.waits and each.file[2] == about.inode and each.kind == wanted
                and each.pid in (task.pid, None)]  # fmt: skip
        # st_dev may be another than the superblock's, which /proc/locks has (btrfs, overlayfs).
        mine = [each for each in mine if each.file[:2] == about.device] or mine
        span = None if name == "flock" else _range(read, words[2], _form(task, signed(words[1])))
        if span is not None:
            mine = [each for each in mine if (each.start, each.end) == span]
        numbers = {each.number for each in mine}
        held = [each for each in locks if not each.waits and each.number in numbers]
        enders = self._lock_holders(held, target, about)
        what = f"a {_lock_words(wanted, held)} on {file}"
        if len(numbers) > 1:
            beyond = "several wait for locks on that file, and which of them this task is does not show"
        else:
            beyond = "" if enders else (
                "who has the lock is not seen here: it may be of another pid namespace or machine")  # fmt: skip
        return Wait(WaitKind.FILE_LOCK, what, enders, closed=not beyond, beyond=beyond, object=f"lock on {file}",
                    locked=about.inode)  # fmt: skip

    def _lock_holders(self, held: list[FileLock], target: bytes | Unavailable, about: FileStatus) -> tuple[Ender, ...]:
        found: dict[Pid, list[Held]] = {}
        if not isinstance(target, Unavailable):
            # flock and OFD locks belong to a description: whoever has it can unlock, and it is unlocked with the last.
            for each in self._machine.tables.files(target, about):
                if self._has_lock(each, held) and self._machine.holds(each):
                    info = tables.info(each.tid, each.fd)
                    cloexec = None if isinstance(info, Unavailable) else info.cloexec
                    found.setdefault(each.pid, []).append(Held(each.fd, cloexec))
        for lock in held:
            if lock.kind in ("POSIX", "LEASE") and lock.pid is not None and self._machine.has_lock(lock):
                found.setdefault(lock.pid, [])
        leases = any(lock.kind == "LEASE" for lock in held)
        role = Role.LEASE_HOLDER if leases else Role.LOCK_HOLDER
        return tuple(Ender(pid, None, role, tuple(fds)) for pid, fds in found.items())

    @staticmethod
    def _has_lock(each: Holding, held: list[FileLock]) -> bool:
        info = tables.info(each.tid, each.fd)
        if isinstance(info, Unavailable):
            return False
        lines = [parse_lock(line) for line in info.all(b"lock")]
        kinds = {(lock.kind, lock.start, lock.end) for lock in held}
        return any(line is not None and (line.kind, line.start, line.end) in kinds for line in lines)

    def lease(self, task: Look, read: Read, place: int) -> Wait | None:
        """open(2) of a FIFO, or of a file that another has a lease on."""
        raw = _string(read, place)
        if raw is None:
            return None
        name = printable(raw)
        function = where(task.tid) or ""
        if function in _FIFO:
            what = f"somebody to open the other end of the FIFO {name}"
            return Wait(WaitKind.OPEN, what, beyond="whoever opens it", object=f"open {name}")
        if "lease" in function:
            holders, sure = self._lease_holders(task, raw)
            what = f"{name}, on which another process has a lease that it is to give up"
            doubt = "" if sure else "; of which file leases are does not show: named are all who have one to give up"
            seconds = proc.setting("/proc/sys/fs/lease-break-time")
            after = f" after {seconds} s (fs.lease-break-time)" if seconds else ""
            end = f"the kernel, which takes the lease away{after}"
            return Wait(WaitKind.FILE_LOCK, what, holders, beyond=end + doubt, object=f"lease on {name}")
        return Wait(WaitKind.OPEN, f"{name} to be opened", beyond="whoever is behind it", object=f"open {name}")

    def _lease_holders(self, task: Look, name: bytes) -> tuple[tuple[Ender, ...], bool]:
        """Who is to give up a lease on the file of that name, and whether it is told that it is that file.

        The name is not looked up, for that could wait for whoever serves the file: it is compared with those that the
        holders' descriptors have.
        """
        locks = self._machine.locks
        breaking = [] if isinstance(locks, Unavailable) else [each for each in locks if each.kind == "LEASE" and (
            each.breaking and not each.waits)]  # fmt: skip
        path = self._absolute(task, name)
        for held in self._machine.tables.holders(path) if path is not None and breaking else ():
            about = tables.about(held.tid, held.fd)
            ours = [] if isinstance(about, Unavailable) else [each for each in breaking if each.file[2] == about.inode]
            if ours and not isinstance(about, Unavailable):
                return self._lock_holders(ours, held.target, about), True
        return tuple(Ender(each.pid, None, Role.LEASE_HOLDER) for each in breaking if each.pid is not None), False

    @staticmethod
    def _absolute(task: Look, name: bytes) -> bytes | None:
        if name.startswith(b"/"):
            return os.path.normpath(name)
        folder = proc.read_link(f"/proc/{task.tid}/cwd")
        return None if isinstance(folder, Unavailable) else os.path.normpath(os.path.join(folder, name))

    def semaphore(self, task: Look, words: tuple[int, ...], read: Read) -> Wait:
        """semop and semtimedop."""
        identifier, count = signed(words[0]), min(words[2] & LOW32, 32)
        raw = read(words[1], 6 * count) or b""
        wanted = [struct.unpack_from("<Hhh", raw, at) for at in range(0, len(raw) - 5, 6)]
        ours = self._machine.ours(task.tid, "ipc")
        number, change = _blocking(wanted, lambda index: sysv.value(identifier, index) if ours else None)
        end = " to become 0" if change == 0 else ""
        what = f"SysV semaphore {number} of set {identifier}{end}"
        enders, note = self._last(sysv.last_changed(identifier, number)) if ours else ((), _ELSEWHERE)
        return Wait(WaitKind.SYSV, what, enders, beyond="whoever changes it, and nothing says who will",
                    object=f"semaphores {identifier}", note=note)  # fmt: skip

    def _last(self, last: Pid | Unavailable | None, way: str = "change it") -> tuple[tuple[Ender, ...], str]:
        if isinstance(last, Unavailable):
            return (), f"who was the last to {way} is not told: {last.why}"
        if not last:
            return (), f"nobody was seen yet to {way}"
        look = self._machine.look(Tid(int(last)))
        if isinstance(look, Unavailable):
            return (), f"{last}, the last to {way}, has ended"
        return (Ender(look.pid, None, Role.LAST, note=f"was the last to {way}", able=False),), (
            f"{last} {printable(look.name)} was the last to {way}")  # fmt: skip

    def message(self, task: Look, words: tuple[int, ...], *, out: bool) -> Wait:
        """msgrcv and msgsnd."""
        identifier = signed(words[0])
        ours = self._machine.ours(task.tid, "ipc")
        queue = sysv.queue(identifier) if ours else None
        what = f"room in SysV queue {identifier}" if out else f"a message in SysV queue {identifier}"
        last = None if queue is None else queue.last_receiver if out else queue.last_sender
        way = "take a message from it" if out else "send a message"
        enders, note = self._last(last, way) if ours else ((), _ELSEWHERE)
        return Wait(
            WaitKind.SYSV, what, enders, beyond="whoever uses the queue", object=f"queue {identifier}", note=note
        )

    def queue(self, task: Look, fd: int, *, out: bool) -> Wait:
        """mq_timedreceive and mq_timedsend: the holders of the same queue."""
        target = tables.target(task.tid, fd)
        name = f"descriptor {fd}" if isinstance(target, Unavailable) else printable(target)
        about = tables.about(task.tid, fd)
        holders: dict[Pid, list[Held]] = {}
        if not isinstance(target, Unavailable) and not isinstance(about, Unavailable):
            for each in self._machine.tables.files(target, about):
                can = tables.access(each.tid, each.fd)
                if can is not None and can[not out]:
                    holders.setdefault(each.pid, []).append(Held(each.fd, None))
        role = Role.READER if out else Role.WRITER
        enders = tuple(Ender(pid, None, role, tuple(fds)) for pid, fds in holders.items())
        what = f"room in the queue {name}" if out else f"a message in the queue {name}"
        return Wait(WaitKind.QUEUE, what, enders, beyond="whoever opens the queue", object=f"queue {name}")

    def signal(self, task: Look, name: str, words: tuple[int, ...], read: Read) -> Wait:
        """pause, sigsuspend, sigwait and the like."""
        if name == "rt_sigtimedwait" and (raw := read(words[0], 8)) is not None:
            named = signal_names(int.from_bytes(raw, "little"))
            return Wait(WaitKind.SIGNAL, f"one of the signals {named}" if " " in named else f"the signal {named}",
                        beyond="whoever sends one", idle=True)  # fmt: skip
        return Wait(WaitKind.SIGNAL, "a signal", beyond="whoever sends one", idle=True)


_ELSEWHERE: Final = "it is of another IPC namespace, which is not asked"
_FLOCK, _FLOCK32, _FLOCK64_32 = struct.Struct("<hhxxxxqq"), struct.Struct("<hhii"), struct.Struct("<hhqq")
"""struct flock of 64-bit programs; struct flock and struct flock64 of i386 (include/linux/compat.h)."""


def _form(task: Look, command: int) -> struct.Struct:
    if not isinstance(task.call, RawCall) or not task.call.narrow:
        return _FLOCK
    return _FLOCK32 if command == F_SETLKW else _FLOCK64_32


def _range(read: Read, place: int, form: struct.Struct) -> tuple[int, int | None] | None:
    """First and last byte of the lock that fcntl(2) is asked for, as /proc/locks has them; None: it does not show."""
    raw = read(place, form.size)
    if raw is None:
        return None
    _kind, whence, start, length = form.unpack(raw)
    if whence != os.SEEK_SET:
        return None
    if length < 0:
        return start + length, start - 1
    return start, start + length - 1 if length else None


def _blocking(wanted: list[tuple[int, int, int]], value: Callable[[int], int | None]) -> tuple[int, int]:
    """Of the changes to a set that are to be made together: the first that cannot be, as far as the values show."""
    could = [(number, change) for number, change, _flags in wanted if change <= 0]
    for number, change in could:
        now = value(number)
        if now is not None and (now < -change if change else now != 0):
            return number, change
    return could[0] if could else (0, -1)


def _lock_words(kind: str, held: list[FileLock]) -> str:
    words = {"FLOCK": "lock (flock)", "POSIX": "lock (fcntl)", "OFDLCK": "lock (fcntl, of an open file)"}[kind]
    for each in held[:1]:
        if each.end is not None:
            return f"{words} of bytes {each.start} to {each.end}"
    return words


def _string(read: Read, place: int) -> bytes | None:
    parts = b""
    while len(parts) < os.pathconf("/", "PC_PATH_MAX"):
        size = 64 - (place + len(parts)) % 64
        raw = read(place + len(parts), size)
        if raw is None:
            return None
        head, end, _ = raw.partition(b"\0")
        parts += head
        if end:
            return parts
    return None
