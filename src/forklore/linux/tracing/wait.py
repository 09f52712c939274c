"""Wait statuses as values: what happened to a task, in one word of waitpid(2) under ptrace(2)."""

from __future__ import annotations

import ctypes
import os
import time
from _thread import get_ident, get_native_id
from contextlib import suppress
from enum import Enum, auto
from typing import Final

from msgspec import Struct

from forklore.abi import ptrace as pt
from forklore.abi.signals import signal_name
from forklore.abi.units import Pid, Tid
from forklore.abi.wait import WaitOption
from forklore.linux.libc import fail, function

_SIGTRAP: Final = 5


class Kind(Enum):
    """What a wait status says."""

    EXITED = auto()
    """_exit or exit_group; ``code``."""
    KILLED = auto()
    """Ended by ``signal``; ``core`` if a core was dumped."""
    SIGNAL = auto()
    """Signal-delivery-stop: ``signal`` is about to be delivered."""
    GROUP_STOP = auto()
    """Group-stop (job control) by ``signal``; restart with PTRACE_LISTEN."""
    TRAP = auto()
    """PTRACE_EVENT_STOP without job control: a new tracee, or PTRACE_INTERRUPT."""
    SYSCALL = auto()
    """Syscall-stop; whether entry or exit, PTRACE_GET_SYSCALL_INFO tells."""
    FORK = auto()
    VFORK = auto()
    CLONE = auto()
    EXEC = auto()
    VFORK_DONE = auto()
    EXIT = auto()
    SECCOMP = auto()
    CONTINUED = auto()
    """Only for children that are not tracees."""
    UNKNOWN = auto()
    """A stop that this version of forklore has no name for; ``status`` has it."""


_EVENTS: Final[dict[int, Kind]] = {
    pt.Event.FORK: Kind.FORK,
    pt.Event.VFORK: Kind.VFORK,
    pt.Event.CLONE: Kind.CLONE,
    pt.Event.EXEC: Kind.EXEC,
    pt.Event.VFORK_DONE: Kind.VFORK_DONE,
    pt.Event.EXIT: Kind.EXIT,
    pt.Event.SECCOMP: Kind.SECCOMP,
}


class WaitStatus(Struct, frozen=True):
    """A decoded wait status. ``signal`` and ``code`` are 0 where the kind has none."""

    status: int
    kind: Kind
    signal: int = 0
    code: int = 0
    core: bool = False

    @property
    def ended(self) -> bool:
        """The task is no more: this was its last status."""
        return self.kind is Kind.EXITED or self.kind is Kind.KILLED

    @classmethod
    def decode(cls, status: int) -> WaitStatus:
        """Decode a status word (wait(2), ptrace(2) "Stopped states"). Any 32-bit word gives an answer."""
        if status == 0xFFFF:
            return cls(status, Kind.CONTINUED)
        low = status & 0x7F
        if low == 0:
            return cls(status, Kind.EXITED, code=(status >> 8) & 0xFF)
        if low != 0x7F:
            return cls(status, Kind.KILLED, signal=low, core=bool(status & 0x80))
        if status & 0x80:
            return cls(status, Kind.UNKNOWN)
        return cls._stopped(status, (status >> 8) & 0xFF, status >> 16)

    @classmethod
    def _stopped(cls, status: int, signal: int, event: int) -> WaitStatus:
        if event == 0:
            if signal == _SIGTRAP | pt.SYSCALL_STOP_BIT:
                return cls(status, Kind.SYSCALL)
            return cls(status, Kind.SIGNAL, signal)
        if event == pt.Event.STOP:
            return cls(status, Kind.TRAP) if signal == _SIGTRAP else cls(status, Kind.GROUP_STOP, signal)
        return cls(status, _EVENTS.get(event, Kind.UNKNOWN), signal)

    def __str__(self) -> str:
        if self.kind is Kind.EXITED:
            return f"exit {self.code}"
        if self.kind is Kind.KILLED:
            return f"killed by {signal_name(self.signal)}" + (" (core dumped)" if self.core else "")
        name = self.kind.name.lower().replace("_", "-")
        return f"{name} {signal_name(self.signal)}" if self.signal else name


class _Rusage(ctypes.Structure):
    """struct rusage as far as it is read: getrusage(2). Its words are longs."""

    _fields_ = (
        ("user_s", ctypes.c_long),
        ("user_us", ctypes.c_long),
        ("system_s", ctypes.c_long),
        ("system_us", ctypes.c_long),
        ("peak", ctypes.c_long),
        ("rest", ctypes.c_long * 13),
    )


_wait4: Final = function("wait4", ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_usage: Final = _Rusage()
_usage_address: Final = ctypes.addressof(_usage)
_clock: Final = time.monotonic_ns
_status: Final = ctypes.c_int()
_status_address: Final = ctypes.addressof(_status)
_ALL: Final = int(WaitOption.WALL)


_NOW: Final = _ALL | int(WaitOption.WNOHANG)
_SPIN: Final = 150_000
"""For so many ns it is asked again and again before the thread sleeps: to be woken takes longer than most stops are
apart while a program makes tasks."""
_SOON: Final = 2 * _SPIN
"""A status that comes within so many ns of sleep would have come sooner without it."""
_WORTH: Final = 4
_MOST: Final = 8
_LOOK_AGAIN: Final = 200_000_000
_SLEPT: Final = 8_000
"""A wait that took more ns has slept: one that finds a status takes two or three µs."""


class Latency:
    """For how long the calling thread was ready to run and did not, by the scheduler's count (schedstat(5) of a thread:
    the second number). A thread that a status wakes is ready from that moment on."""

    def __init__(self) -> None:
        self._thread = 0
        """The thread that the descriptor is of, as Python numbers threads: the kernel's number is a system call."""
        self._fd = -1
        self._last = 0

    def since_last(self) -> int:
        """Nanoseconds since this was asked last; 0 where the kernel does not count."""
        if get_ident() != self._thread:
            self._open()
        if self._fd == -1:
            return 0
        try:
            before, self._last = self._last, int(os.pread(self._fd, 64, 0).split(None, 2)[1])
        except (OSError, IndexError, ValueError):
            self._thread = 0  # of one that is gone, whose number another one got
            return 0
        return self._last - before

    def _open(self) -> None:
        if self._fd != -1:
            os.close(self._fd)
        self._thread, self._last = get_ident(), 0
        try:
            self._fd = os.open(f"/proc/self/task/{get_native_id()}/schedstat", os.O_RDONLY)
        except OSError:
            self._fd = -1


class Waiting:
    """Waits for statuses: asks again and again for a moment where they come fast, and sleeps where they do not.

    It learns from each wait. After a few that were in vain it sleeps at once, until some that were short; so a quiet
    program costs nothing but these few moments. Where other programs want the processors, or there is one only, it
    always sleeps: whoever is waited for needs the processor itself.
    """

    def __init__(self) -> None:
        self._worth = 0
        self._alone = len(os.sched_getaffinity(0)) < 2
        self._busy = True
        self._looked = 0
        self._latency = Latency()
        self.since = 0
        """At that time of the clock there was no status: the one that was given last came later."""

    def any(self) -> tuple[Tid, int]:
        """Wait until any child or tracee, thread or process, changes state: its tid and the status word.

        Raises ChildProcessError when none is left, InterruptedError when a signal of our own came first.
        """
        began = _clock()
        self.since = self.since or began
        if self._worth >= _WORTH and self._may(began):
            until = began + _SPIN
            while (now := _clock()) < until:
                tid = _wait4(-1, _status_address, _NOW, _usage_address)
                if tid > 0:
                    if self._worth < _MOST:
                        self._worth += 1
                    return Tid(tid), _status.value
                if tid == -1:
                    raise fail("wait4")
                self.since = now
            self._worth -= 2
            began = now
        tid = _wait4(-1, _status_address, _ALL, _usage_address)
        if tid == -1:
            raise fail("wait4")
        now = _clock()
        waited = now - began
        if waited > _SLEPT:
            ready = now - self._latency.since_last()
            self.since = ready if ready > began else began
        if not self._alone:
            if waited >= _SOON:
                self._worth = self._worth - 2 if self._worth > 2 else 0
            elif self._worth < _MOST:
                self._worth += 1
        return Tid(tid), _status.value

    def _may(self, now: int) -> bool:
        if now - self._looked > _LOOK_AGAIN:
            self._looked = now
            self._busy = os.getloadavg()[0] > len(os.sched_getaffinity(0))
        return not self._busy


_waiting: Final = Waiting()
wait_any: Final = _waiting.any


def status_since() -> int:
    """A moment of the clock before which the status that :func:`wait_any` gave last was not there."""
    return _waiting.since


def last_usage() -> tuple[int, int]:
    """Of the task that :func:`wait_any` gave last, if it has ended: the CPU time in µs and the largest resident memory
    in KiB of its process, with those of the children that it waited for (kernel/exit.c: wait_task_zombie).
    """
    us = (_usage.user_s + _usage.system_s) * 1_000_000 + _usage.user_us + _usage.system_us
    return us, _usage.peak


kill: Final = os.kill
"""kill(2): ``kill(pid, signal)``. ProcessLookupError for a process that is gone."""


def reap(pid: Pid) -> None:
    """Wait for a child of ours, of any kind, unless somebody else has."""
    with suppress(ChildProcessError):
        os.waitpid(pid, _ALL)
