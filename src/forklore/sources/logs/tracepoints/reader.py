"""Tracepoints of tasks as text: from lines to event records. See docs/other-tools.md.

``task_newtask`` has creator, child and the flags that the kernel acted on, before the child runs; so nothing has to be
found out later. ``sys_enter_clone`` and the like have the words of the call, ``sys_exit_*`` what was refused,
``sched_process_exec`` what runs now, and ``sched_process_exit`` that a task ended, not how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from forklore.abi import clone_args
from forklore.abi.arch import Arch
from forklore.abi.errors import RESTARTS
from forklore.abi.flags import CLONE_VFORK, CLONE_VM
from forklore.abi.units import Unavailable
from forklore.events.check import TIME_LIMIT
from forklore.events.lines import LineSource
from forklore.events.records import Blind, Clock, Exec, ExecFail, Fail, Header, Name, Other, Source, VforkDone, text
from forklore.events.trace_file import TraceFile
from forklore.sources.logs.assembly.dialect import CHANGING, CREATING, ENDING, EXECUTING, FOLLOWED
from forklore.sources.logs.assembly.ends import Ends
from forklore.sources.logs.assembly.tasks import LoggedTask
from forklore.sources.logs.printed import words
from forklore.sources.logs.reading import LogReader, trace_file
from forklore.sources.logs.tracepoints.lines import (
    LOST,
    NAMED,
    TRACEFS,
    Ended,
    Entered,
    Executed,
    Forked,
    Left,
    NewTask,
    Point,
    Renamed,
    read_line,
)  # fmt: skip

_ARCH: Final = Arch.X86_64
_NO_STRUCT: Final = Unavailable(errno=0, why="the tracepoint has only the address of the struct")
_NO_PATH: Final = Unavailable(errno=0, why="the tracepoint has only the address of the path")
_NO_ARGV: Final = Unavailable(errno=0, why="the tracepoint sched_process_exec has the path and no arguments")
_BLIND: Final = (
    Blind("arch", "a line does not name it; x86_64 is assumed"),
    Blind("kernel, host", "the text does not have them"),
    Blind("clone3 struct", "its tracepoint has only the address; the flags are those that task_newtask tells"),
    Blind("exec arguments", "sched_process_exec has the path only"),
    Blind("ends", "sched_process_exit does not tell how a task ended: known is what exit and exit_group were given"),
    Blind("pids", "tracepoints number tasks as the machine's first pid namespace does; pids in others are not known"),
    Blind("sharing", "nothing was observed, only asked for"),
    Blind("parents", "the text does not tell who waits for a task after its parent ended"),
    Blind("thread groups", "which of the tasks that ran before are threads is not told"),
)


@dataclass(slots=True, eq=False)
class _Running:
    """A system call that a task is in."""

    entered: Entered
    t: int
    made: LoggedTask | None = None
    vfork: bool = False
    executed: bool = False


class TracepointReader(LogReader):
    """The state between two lines."""

    def __init__(self) -> None:
        super().__init__(_ARCH)
        self._start: int | None = None
        self._in_call: dict[LoggedTask, _Running] = {}
        self._ends = Ends(self.order)
        self._renamed: dict[LoggedTask, bytes] = {}
        """A new name, of which the next line tells whether an exec brought it."""

    def feed(self, line: bytes, number: int) -> None:
        """Take the next line."""
        self.order.line = number
        point = read_line(line)
        if point is None:
            if lost := LOST.match(line):
                self._lost(int(next(filter(None, lost.groups()))[:18]))
            elif NAMED.search(line):
                self.order.notices.add("lines that name a tracepoint of tasks and are not understood", number)
            return
        if isinstance(point.what, Entered | Left) and point.what.call not in FOLLOWED:
            return
        t = self._time(point)
        about = point.what.tid if isinstance(point.what, Ended | Renamed) else point.tid
        if isinstance(point.what, Executed):
            about = point.what.former
        task = self.order.tasks.get(about)
        if task is None:
            if isinstance(point.what, Left):
                return  # of a call that began before, by a task of which nothing else is known
            comm = point.comm if about == point.tid else None
            task = self.order.was_there(about, t, None if comm is None else text(comm))
        if not isinstance(point.what, Executed):
            self._take_name(task, t)
        self._take(task, point, t)

    def finish(self) -> None:
        """The log has ended."""
        super().finish()
        for task, comm in list(self._renamed.items()):
            self.order.emit(Name(t=self.stamps.last, task=task.id, comm=text(comm), how="found"))
        self._ends.finish(self.stamps.last)

    def _time(self, point: Point) -> int | None:
        if self._start is None:
            self._start = point.t
        t = point.t - self._start
        if abs(t) >= TIME_LIMIT:
            return None
        self.stamps.last = t
        return t

    def _lost(self, count: int) -> None:
        self.order.note("events", f"the tool could not keep {count} of them", self.stamps.last)

    def _take(self, task: LoggedTask, point: Point, t: int | None) -> None:
        match point.what:
            case Entered() as entered:
                self._enters(task, entered, t)
            case Left() as left:
                self._leaves(task, left, t)
            case NewTask(tid, flags):
                self._creates(task, tid, flags, t)
            case Forked(tid):
                if tid not in self.order.tasks:  # otherwise task_newtask told of it
                    self._creates(task, tid, None, t)
            case Executed() as executed:
                self._executes(task, executed, t)
            case Ended(status=status):
                self._in_call.pop(task, None)
                self._ends.exits(task, t, status)
            case Renamed(comm=comm):
                self._renamed[task] = comm

    # Calls

    def _enters(self, task: LoggedTask, entered: Entered, t: int | None) -> None:
        if entered.call in ENDING:
            code = next((value for _, value in entered.words), None)
            if code is not None:
                status = (code & 0xFF) << 8, t
                if entered.call == b"exit_group":
                    task.group.group_leaving = task.group.group_leaving or status
                else:
                    task.leaving = status
            return
        self._in_call[task] = _Running(entered, 0 if t is None else t)

    def _leaves(self, task: LoggedTask, left: Left, t: int | None) -> None:
        running = self._in_call.get(task)
        if running is None or running.entered.call != left.call:
            return  # the child's own return, or of a call that began before
        del self._in_call[task]
        if left.call in EXECUTING:
            self._executed(task, running, left.value, t)
        elif left.call in CHANGING:
            self.order.emit(Other(t=t, task=task.id, result=_result(left.value), **_call(running.entered)))
        elif left.value < 0:
            if -left.value not in RESTARTS:
                self.order.emit(Fail(t=t, task=task.id, errno=-left.value, **_call(running.entered)))
        elif running.vfork and running.made is not None:
            self.order.emit(VforkDone(t=t, task=task.id, child=running.made.id, tid=running.made.tid))

    def _executed(self, task: LoggedTask, running: _Running, value: int, t: int | None) -> None:
        path = next((printed for name, printed in running.entered.texts if name == b"filename"), b"")
        given = text(path) if path else _NO_PATH  # also printed as empty where it could not be read
        if value < 0 and -value not in RESTARTS:
            self.order.emit(ExecFail(t=t, task=task.id, path=given, argv=_NO_ARGV, errno=-value))
        elif value == 0 and not running.executed:
            self.order.executed(task, Exec(t=t, task=task.id, path=given, argv=_NO_ARGV, began=running.t))

    # Tasks

    def _creates(self, creator: LoggedTask, tid: int, flags: int | None, t: int | None) -> None:
        running = self._in_call.get(creator)
        call: dict[str, Any] = {"arch": _ARCH, "nr": None}
        if running is not None and running.entered.call in CREATING:
            call = _call(running.entered)
            if flags is None:
                flags = _flags(running.entered)
        if call["nr"] is None or call.get("struct") is _NO_STRUCT:
            call["flags"] = flags
        made = self.order.begin(creator, t, call, flags)
        made.vfork = False  # its return is told by a line of its own
        child = self.order.created(made, t, tid, own=True)
        if running is not None:
            running.made, running.vfork = child, bool((flags or 0) & CLONE_VFORK)

    def _executes(self, task: LoggedTask, executed: Executed, t: int | None) -> None:
        running, comm = self._in_call.get(task), self._renamed.pop(task, None)
        if executed.tid != task.tid:
            if (leader := self.order.tasks.get(executed.tid)) is not None:
                self._ends.superseded(leader)
                self._in_call.pop(leader, None)
                comm = comm or self._renamed.pop(leader, None)
            self.order.takes_over(task, executed.tid, t)
        former, task.former_tid = task.former_tid, None
        if running is not None:
            running.executed = True
        event = Exec(
            t=t, task=task.id, path=text(executed.path), argv=_NO_ARGV, former_tid=former,
            comm=None if comm is None else text(comm), began=None if running is None else running.t,
        )  # fmt: skip
        self.order.executed(task, event)

    def _take_name(self, task: LoggedTask, t: int | None) -> None:
        if (comm := self._renamed.pop(task, None)) is not None:
            self.order.emit(Name(t=t, task=task.id, comm=text(comm), how="found"))


def _call(entered: Entered) -> dict[str, Any]:
    """The fields of a call's record."""
    nr = words.call_number(_ARCH, entered.call.decode())
    call: dict[str, Any] = {"arch": _ARCH, "nr": nr, "args": tuple(value for _, value in entered.words[:6])}
    if entered.call == b"clone3":
        given = {name.decode(): value for name, value in entered.words}
        call["args"] = given.get("uargs"), given.get("size")
        whole = clone_args.OFFSETS.keys() <= given.keys()
        struct = clone_args.pack(**{name: given[name] for name in clone_args.OFFSETS}) if whole else b""
        call["struct"] = struct[: given.get("size")].hex() if whole else _NO_STRUCT
    return call


def _flags(entered: Entered) -> int | None:
    if entered.call == b"clone":
        return entered.words[0][1] if entered.words else None
    if entered.call == b"clone3":
        return next((value for name, value in entered.words if name == b"flags"), None)
    return CLONE_VM | CLONE_VFORK if entered.call == b"vfork" else 0


def _result(value: int) -> int | None:
    return value if value >= 0 or -value not in RESTARTS else None


def read(source: LineSource, head: list[bytes]) -> TraceFile:
    """Read the text from its start; ``head`` are its first lines, which ``source`` gives again."""
    first = next(filter(None, map(read_line, head)), None)
    clock = Clock(start=None, wall=None, resolution=0 if first is None else int(10 ** (9 - first.digits)))
    header = Header(source=Source(tool=_tool(head)), clock=clock, blind=list(_BLIND))
    return trace_file(header, TracepointReader(), source, head)


def _tool(head: list[bytes]) -> str:
    if any(line.startswith(b"Attaching ") for line in head):
        return "bpftrace"
    tracefs = any(TRACEFS.match(line) for line in head if len(line) < 8192)
    return "tracefs" if tracefs else "perf script"
