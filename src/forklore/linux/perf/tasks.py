"""What the kernel tells of tasks beside the samples of perf_event_open(2): creations, ends, names, execs.

Two ways. Of one's own processes without any privilege (kernel.perf_event_paranoid up to 2): a dummy event of the first
of them is inherited by all that it makes. Of the whole machine with CAP_PERFMON or paranoid below 1: an event on each
processor, inherited by nobody. Where tracefs can be read too, tracepoints tell the flags of a creation and the path of
an exec.

Records of one processor come in order. Those of several are put in order by their times, and none is given away before
all that are earlier must have come: a look gives what is older than the look before it.
"""

from __future__ import annotations

import errno
import os
import select
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from forklore.abi.units import Fd, Pid, Tid
from forklore.linux.perf.events import (
    COMM_EXEC,
    EVERY,
    TRACEPOINT,
    Ask,
    Attributes,
    EventRing,
    Kind,
    Request,
    Sample,
    open_event,
    processors,
    request,
)
from forklore.linux.tracefs import Tracefs

_SAMPLE: Final = Sample.TID | Sample.TIME
_ASK: Final = (
    Ask.EXCLUDE_KERNEL | Ask.EXCLUDE_HV | Ask.MMAP | Ask.COMM | Ask.TASK | Ask.WATERMARK | Ask.SAMPLE_ID_ALL
    | Ask.MMAP2 | Ask.COMM_EXEC | Ask.USE_CLOCKID
)  # fmt: skip
_BY: Final = struct.Struct("=IIQ")
"""What stands last in each record, by sample_id_all: who wrote it, and when."""
_TASKS: Final = struct.Struct("=IIII")
_NAMED: Final = struct.Struct("=II")
_COUNT: Final = struct.Struct("=QQ")
_RAW: Final = struct.Struct("=IIQI")
_MMAP2_NAME: Final = 64
_POINTS: Final = ("task_newtask", "sched_process_exec")
LEAST: Final = 1 << 12
"""Bytes of the smallest ring."""


class Forked(Struct, gc=False):
    """A task was made, before it runs."""

    time: int
    pid: Pid
    tid: Tid
    creator_pid: Pid
    creator: Tid
    flags: int | None = None
    """Those that the kernel acted on, without the exit signal, where a tracepoint tells them."""


class Ended(Struct, frozen=True, gc=False):
    """A task ends. ``parent``: the process that waits for its process at that time."""

    time: int
    pid: Pid
    tid: Tid
    parent: Pid


class Named(Struct, frozen=True, gc=False):
    """A task has another name: by an exec, or given to it by the task ``by``."""

    time: int
    pid: Pid
    tid: Tid
    comm: bytes
    executes: bool
    by: Tid


class CodeMapped(Struct, frozen=True, gc=False):
    """A process has mapped code. The first after an exec is the executable's own. ``path``: as its own root names it;
    None: of no file."""

    time: int
    pid: Pid
    tid: Tid
    path: bytes | None


class Executed(Struct, frozen=True, gc=False):
    """An exec has come to its end. ``path``: as it was given."""

    time: int
    tid: Tid
    path: bytes


class Lost(Struct, frozen=True, gc=False):
    """So many records found no room."""

    time: int
    count: int


class Points(Struct, frozen=True):
    """Tracepoints that are read, by number, and where in their records the fields lie; None: not there."""

    newtask: int | None = None
    flags: int = 0
    exec: int | None = None
    filename: int = 0


NO_POINTS: Final = Points()


class _Flags(Struct, frozen=True, gc=False):
    """The flags of the creation that ``creator`` has just made."""

    time: int
    creator: Tid
    flags: int


Record = Forked | Ended | Named | CodeMapped | Executed | Lost


def parse(kind: int, misc: int, body: bytes, points: Points = NO_POINTS) -> Record | _Flags | None:
    """A record behind its header; None for one that is not of interest, or such as no kernel writes."""
    try:
        return _sample(body, points) if kind == Kind.SAMPLE else _side_record(kind, misc, body)
    except struct.error:
        return None


def _side_record(kind: int, misc: int, body: bytes) -> Record | None:
    _by_pid, by, when = _BY.unpack_from(body, len(body) - _BY.size)
    match kind:
        case Kind.FORK:
            pid, creator_pid, tid, creator = _TASKS.unpack_from(body)
            return Forked(when, Pid(pid), Tid(tid), Pid(creator_pid), Tid(creator))
        case Kind.EXIT:
            pid, parent, tid, _ = _TASKS.unpack_from(body)
            return Ended(when, Pid(pid), Tid(tid), Pid(parent))
        case Kind.COMM:
            pid, tid = _NAMED.unpack_from(body)
            comm = body[_NAMED.size : -_BY.size].partition(b"\0")[0]
            return Named(when, Pid(pid), Tid(tid), comm, bool(misc & COMM_EXEC), Tid(by))
        case Kind.MMAP2:
            pid, tid = _NAMED.unpack_from(body)
            name = body[_MMAP2_NAME : -_BY.size].partition(b"\0")[0]
            return CodeMapped(when, Pid(pid), Tid(tid), name if name.startswith(b"/") and name != b"//anon" else None)
        case Kind.LOST:
            return Lost(when, _COUNT.unpack_from(body)[1])
    return None


def _sample(body: bytes, points: Points) -> _Flags | Executed | None:
    _pid, tid, when, size = _RAW.unpack_from(body)
    raw = body[_RAW.size : _RAW.size + size]
    (number,) = struct.unpack_from("=H", raw)  # common_type
    if number == points.newtask:
        return _Flags(when, Tid(tid), struct.unpack_from("=Q", raw, points.flags)[0])
    if number == points.exec:
        (where,) = struct.unpack_from("=I", raw, points.filename)  # __data_loc: offset, and length above it
        return Executed(when, Tid(tid), raw[where & 0xFFFF :].partition(b"\0")[0])
    return None


class InOrder:
    """Puts the records of several processors in order."""

    def __init__(self) -> None:
        self._waiting: list[Record] = []
        self._last_look = 0

    def look(self, found: Iterable[Record | _Flags], now: int, *, all_of_it: bool = False) -> list[Record]:
        """Take what a look at all rings found that began at ``now``, and give what is complete, in the order of time.

        ``all_of_it``: nothing more is written.
        """
        last: dict[Tid, Forked] = {}
        waiting: list[Record] = []
        for record in sorted([*self._waiting, *found], key=lambda record: record.time):
            if isinstance(record, _Flags):
                made = last.pop(record.creator, None)
                if made is not None:
                    made.flags = record.flags
                continue
            if isinstance(record, Forked):
                last[record.creator] = record
            waiting.append(record)
        until, self._last_look = self._last_look, now
        ready = len(waiting)
        if not all_of_it:
            ready = next((at for at, record in enumerate(waiting) if record.time >= until), ready)
        self._waiting = waiting[ready:]
        return waiting[:ready]

    @property
    def waiting(self) -> int:
        """How many came and are not known to be complete."""
        return len(self._waiting)


class TaskRecords:
    """The kernel's records of tasks, from when this is made or, per process, from :meth:`mark`. Raises OSError."""

    def __init__(self, size: int, *, machine: bool = True, tracepoints: bool = True) -> None:
        """``size``: bytes of all rings together; a user who may not lock so much memory gets less. ``machine``,
        ``tracepoints``: whether these are tried first.

        Raises OSError where not even one's own processes can be followed: EACCES, EPERM or ENOSYS as a rule.
        """
        self._cpus = processors()
        self._each = max(LEAST, 1 << max(0, (size // len(self._cpus)).bit_length() - 1))
        self._events: list[Fd] = []
        self._rings: list[EventRing] = []
        self._order = InOrder()
        self._points = NO_POINTS
        self._poll = select.epoll()
        self.why_no_tracepoints = ""
        """Why flags and paths are not told."""
        self.whole_machine = machine and self._try_machine()
        """Whether records of all processes come: who reads them picks out."""
        try:
            if self.whole_machine:
                if tracepoints:
                    self._try_tracepoints()
            else:
                self.why_no_tracepoints = "tracepoints need CAP_PERFMON, or kernel.perf_event_paranoid at -1"
                self._open(0, Ask.INHERIT)  # of ourselves: whether it may be
                self._close_rings()
        except OSError:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Bytes of all rings together."""
        return self._each * len(self._cpus)

    @property
    def flags_told(self) -> bool:
        """Whether each creation comes with its flags."""
        return self._points.newtask is not None

    @property
    def paths_told(self) -> bool:
        """Whether each exec comes with its path."""
        return self._points.exec is not None

    def _try_machine(self) -> bool:
        try:
            self._open(EVERY, Ask(0))
        except OSError as problem:
            if problem.errno not in (errno.EACCES, errno.EPERM):
                raise
            return False
        return True

    def _open(self, who: int, more: Ask) -> None:
        while not self._opened(who, more):
            # More than kernel.perf_event_mlock_kb and RLIMIT_MEMLOCK allow a user, all processors together.
            self._close_rings()
            self._each >>= 1
        for event in self._events:
            # By edge: one whose tasks have all ended is ready for good.
            self._poll.register(event, select.EPOLLIN | select.EPOLLET)

    def _opened(self, who: int, more: Ask) -> bool:
        for cpu in self._cpus:
            try:
                event = self._one(who, cpu, more)
            except OSError:
                self._close_rings()
                raise
            self._events.append(event)
            try:
                self._rings.append(EventRing(event, self._each))
            except OSError as problem:
                if problem.errno == errno.EPERM and self._each > LEAST:
                    return False
                self._close_rings()
                raise
        return True

    def _one(self, who: int, cpu: int, more: Ask) -> Fd:
        wakeup = self._each >> 2
        attributes = Attributes(ask=_ASK | more, sample=_SAMPLE, counts_lost=True, wakeup=wakeup)
        try:
            return open_event(attributes, who, cpu)
        except OSError as problem:
            if problem.errno != errno.EINVAL:
                raise
        return open_event(replace(attributes, counts_lost=False), who, cpu)  # before Linux 6.0

    def _try_tracepoints(self) -> None:
        try:
            tracefs = Tracefs()
        except OSError as problem:
            self.why_no_tracepoints = f"tracefs cannot be read: {problem.strerror}"
            return
        found: dict[str, tuple[int, int]] = {}
        try:
            groups = ("task", "sched")
            fields = ("clone_flags", "filename")
            for group, name, field in zip(groups, _POINTS, fields, strict=True):
                number, where = tracefs.number(group, name), tracefs.fields(group, name).get(field)
                if number is not None and where is not None:
                    self._read_tracepoint(number)
                    found[name] = number, where[0]
        except OSError as problem:
            self.why_no_tracepoints = f"{problem.filename or 'tracefs'}: {problem.strerror}"
        finally:
            tracefs.close()
        newtask, execs = (found.get(name, (None, 0)) for name in _POINTS)
        self._points = Points(newtask[0], newtask[1], execs[0], execs[1])

    def _read_tracepoint(self, number: int) -> None:
        ask = Ask.SAMPLE_ID_ALL | Ask.USE_CLOCKID
        attributes = Attributes(TRACEPOINT, number, ask, _SAMPLE | Sample.RAW, period=1)
        for cpu, ring_of in zip(self._cpus, list(self._events[: len(self._cpus)]), strict=True):
            event = open_event(attributes, EVERY, cpu, "a tracepoint by perf_event_open")
            self._events.append(event)
            request(event, Request.SET_OUTPUT, ring_of, "a tracepoint's ring")

    def mark(self, tids: Iterable[Tid]) -> None:
        """Follow these tasks and what they make from now on. Raises OSError."""
        if self.whole_machine:
            return
        for tid in tids:
            if not self._rings:
                self._open(tid, Ask.INHERIT)
                continue
            first = list(self._events[: len(self._cpus)])
            for cpu, ring_of in zip(self._cpus, first, strict=True):
                event = self._one(tid, cpu, Ask.INHERIT)
                self._events.append(event)
                request(event, Request.SET_OUTPUT, ring_of)

    def wait(self, seconds: float) -> None:
        """Until there is much to read, or so long."""
        self._poll.poll(seconds)

    def wait_for(self, fd: int) -> None:
        """:meth:`wait` ends when this can be read, too: once."""
        self._poll.register(fd, select.EPOLLIN | select.EPOLLET)

    def read(self, *, all_of_it: bool = False) -> list[Record]:
        """What has come by now and is complete, in the order of time."""
        now = time.monotonic_ns()
        raw = (record for ring in self._rings for record in ring.records())
        found = (record for kind, misc, body in raw if (record := parse(kind, misc, body, self._points)) is not None)
        return self._order.look(found, now, all_of_it=all_of_it)

    @property
    def waiting(self) -> int:
        """How many records came that :meth:`read` has not given yet."""
        return self._order.waiting

    def lost(self) -> int | None:
        """How many records found no room so far; None where this kernel does not count them (before Linux 6.0)."""
        total = 0
        for event in self._events[: len(self._rings)]:
            raw = os.read(event, 16)
            if len(raw) < _COUNT.size:
                return None
            total += _COUNT.unpack(raw)[1]
        return total

    def detach(self) -> None:
        """Nothing more is written."""
        for event in self._events:
            with suppress(OSError):  # its task has ended
                request(event, Request.DISABLE)

    def _close_rings(self) -> None:
        while self._rings:
            self._rings.pop().close()
        while self._events:
            os.close(self._events.pop())

    def close(self) -> None:
        """Nothing of it is left."""
        self._close_rings()
        self._poll.close()
