"""Text of ``perf trace``: from its lines to event records. See docs/other-tools.md.

Written against perf 6.1. It prints calls much as strace does, arguments with their names and none that are zero, and
the tracepoints that it was asked for between them. A call's line is written when it returns, or, where something else
happens meanwhile, after that: ``...`` and ``[continued]``.
"""

from __future__ import annotations

import re
from typing import Any, Final

from forklore.abi.arch import CLONE_BACKWARDS, Arch
from forklore.abi.errors import RESTARTS
from forklore.abi.flags import CLONE_VFORK, CLONE_VM
from forklore.abi.units import LOW32, PID_LIMIT, Unavailable
from forklore.events.lines import LineSource
from forklore.events.records import UNKNOWN_TID, Blind, Clock, Exec, Header, Source, Text, text
from forklore.events.trace_file import TraceFile
from forklore.sources.logs.assembly.dialect import (
    CREATING,
    ENDING,
    EXECUTING,
    FOLLOWED,
    Dialect,
    LoggedCall,
    LoggedImage,
    Returned,
)  # fmt: skip
from forklore.sources.logs.assembly.ends import Ends
from forklore.sources.logs.assembly.tasks import LoggedTask
from forklore.sources.logs.printed import words
from forklore.sources.logs.printed.calls import arguments, result, string
from forklore.sources.logs.reading import CallReader, trace_file

_ARCH: Final = Arch.X86_64
_NO_STRUCT: Final = Unavailable(errno=0, why="perf trace prints only the address of the struct")
_NO_PATH: Final = Unavailable(errno=0, why="perf trace printed only the address of the path")
_NO_ARGV: Final = Unavailable(errno=0, why="perf trace prints only the address of the arguments")
_BLIND: Final = (
    Blind("arch", "perf trace does not name it; x86_64 is assumed"),
    Blind("kernel, host", "a log does not have them"),
    Blind("clone3 struct", "perf trace prints only its address; flags are known where it was asked for task_newtask"),
    Blind("exec arguments", "perf trace prints only their address, and the path only where it can copy it"),
    Blind("ends", "a log has what exit and exit_group were given, and no end by a signal"),
    Blind("sharing", "nothing was observed, only asked for"),
    Blind("parents", "a log does not tell who waits for a task after its parent ended"),
    Blind("thread groups", "a log does not tell which of the tasks that ran before it are threads"),
)

LINE: Final = re.compile(
    rb" *(?:\?|(?P<ms>\d{1,12})\.(?P<us>\d{3})) \( *(?:(?P<took>\d{1,12})\.(?P<tookus>\d{3}) ms)? *\): +"
    rb"(?:(?P<comm>[^/]{0,16}|.{1,16})/)?(?:(?P<tid>\d{1,7}) +)?"
    rb"(?:\.\.\. \[continued\]: (?P<resumed>\w+)\(\)|(?P<system>[a-z_]+):(?P<point>\w+)\(|(?P<call>[a-z_]\w*)\()"
)
"""A line: when, how long it took, who, and what it is."""
_UNFINISHED: Final = re.compile(rb"\)\s+\.\.\.\s*\Z")
_RESTART: Final = re.compile(rb"\s*= -1 \(unknown\).*strerror_r\((\d{1,4}),")
_ARGUMENT: Final = re.compile(rb"(\w+): (.*)", re.DOTALL)
_PRINTED_PID: Final = re.compile(rb"\b(?P<name>pid|old_pid|child_pid): (?P<pid>\d{1,7})\b")
_FILENAME: Final = re.compile(rb'filename: "((?:[^"\\]|\\.)*)"')
_FLAGS: Final = re.compile(rb"clone_flags: (\d{1,20})\b")


class PerfTraceReader(CallReader):
    """The state between two lines."""

    def __init__(self) -> None:
        super().__init__(DIALECT, _ARCH)
        self.order.matching.cut_calls = False
        self._ends = Ends(self.order)
        self._execs_are_points = False
        """The log has sched_process_exec, which tells more of an exec than the call does."""
        self._latest = 0
        """When the last tracepoint was. The time of a call is that of its beginning, which may lie back."""
        self._sorted = True

    def feed(self, line: bytes, number: int) -> None:
        """Take the next line."""
        self.order.line = number
        match = LINE.match(line)
        if match is None:
            self.not_understood(line)
            return
        self.calls.next_line()
        name = match["resumed"] or match["call"] or b""
        if match["point"] is None and name not in FOLLOWED:
            return
        t = self._time(match)
        task = self._whose(match, t)
        if task is None:
            self.not_understood(line)
        elif match["point"] is not None:
            self._point(task, match["point"], line[match.end() :], t)
            return
        if task is None:
            return
        if name in EXECUTING and self._execs_are_points and self._succeeded(match, line):
            task.open = None
            self.order.executing.pop(task, None)
        elif match["call"] is not None:
            self._call(task, name, line[match.end() :], match, t)
        else:
            self._resumed(task, name, line[match.end() :], t)
        if task.creating is not None:  # its beginning may be written after the first lines of its child
            task.creating.seq = min(task.creating.seq, task.seen)
        task.seen = self.order.matching.seq

    def finish(self) -> None:
        """The log has ended."""
        super().finish()
        self._ends.finish(self.stamps.last)

    # When, and whose

    def _time(self, match: re.Match[bytes]) -> int | None:
        if match["ms"] is None:
            return None
        self.stamps.last = int(match["ms"]) * 1_000_000 + int(match["us"]) * 1000
        return self.stamps.last

    def _took(self, match: re.Match[bytes]) -> int:
        return 0 if match["took"] is None else int(match["took"]) * 1_000_000 + int(match["tookus"]) * 1000

    def _whose(self, match: re.Match[bytes], t: int | None) -> LoggedTask | None:
        if match["tid"] is None:
            return self.order.sole() or self.order.task(UNKNOWN_TID, t)
        tid = int(match["tid"])
        return self.order.task(tid, t) if 0 < tid < PID_LIMIT else None

    # Calls

    def _call(self, task: LoggedTask, name: bytes, rest: bytes, match: re.Match[bytes], t: int | None) -> None:
        if name in ENDING:  # the only argument, left out where it is 0
            code = words.number(_named(arguments(rest, 0)[0]).get(b"error_code", b"0"))
            rest = b"%d) = ?" % (code or 0) if code is not None else b") = ?"
        elif unfinished := _UNFINISHED.search(rest):
            rest = rest[: unfinished.start()] + b") <unfinished ...>"
        else:
            took = self._took(match)
            rest = rest.rstrip() + b" <%d.%09d>" % divmod(took, 1_000_000_000)
        self.calls.call(task, LoggedCall(name, rest, t), t)

    def _resumed(self, task: LoggedTask, name: bytes, rest: bytes, t: int | None) -> None:
        if task.open is None and name in CREATING:
            return  # the child's own return
        if task.open is None and name in EXECUTING:
            # Of a call that was made before the log began, or of a thread that has the leader's tid now.
            if (answer := result(rest, 1)) is not None and answer.value == 0:
                self.order.executed(task, Exec(t=t, task=task.id, path=_NO_PATH, argv=_NO_ARGV))
                if task.seen:
                    why = "the log has no call of it, which any thread of the process can have made"
                    self.order.note("exec", why, t, task)
            return
        self.calls.resumed(task, name, rest[1:], t)

    def _succeeded(self, match: re.Match[bytes], line: bytes) -> bool:
        rest = line[match.end() :]
        end = 1 if match["resumed"] is not None else arguments(rest, 0)[1]
        answer = None if end is None else result(rest, end)
        return answer is not None and answer.value == 0

    # Tracepoints between them

    def _point(self, task: LoggedTask, name: bytes, rest: bytes, t: int | None) -> None:
        if t is not None and t < self._latest and self._sorted:
            self._sorted = False
            why = "lines of several processors stand out of the order of time: perf trace --sort-events sorts them"
            self.order.note("order", why, t)
        self._latest = max(self._latest, t or 0)
        pids = {found["name"]: int(found["pid"]) for found in _PRINTED_PID.finditer(rest)}
        if name == b"task_newtask":
            flags = _FLAGS.search(rest)
            if flags is not None and task.creating is not None and int(flags[1]) < 1 << 64:
                task.creating.call = {**task.creating.call, "flags": int(flags[1])}
                task.told_flags = int(flags[1])
        elif name == b"sched_process_exec":
            self._execs_are_points = True
            former = self.order.tasks.get(pids.get(b"old_pid", 0))
            if former is not None and pids.get(b"pid", former.tid) != former.tid:
                if (leader := self.order.tasks.get(pids[b"pid"])) is not None:
                    self._ends.superseded(leader)
                self.order.takes_over(former, pids[b"pid"], t)
            ran = former or task
            path = _FILENAME.search(rest)
            number, ran.former_tid = ran.former_tid, None
            given: Text | Unavailable = _NO_PATH if path is None else text(path[1])
            began = None if ran.open is None else ran.open.began
            event = Exec(t=t, task=ran.id, path=given, argv=_NO_ARGV, former_tid=number, began=began)
            ran.open = None
            self.order.executed(ran, event)
        elif name == b"sched_process_exit" and pids.get(b"pid") == task.tid:
            self.order.matching.ends_told = True
            self._ends.exits(task, t, None)


# How perf trace prints calls


def _named(args: list[bytes]) -> dict[bytes, bytes]:
    return {found[1]: found[2] for found in map(_ARGUMENT.match, args) if found is not None}


def _flag_word(printed: bytes) -> int | None:
    """Flags without ``CLONE_``: ``VM|VFORK|0x11``."""
    total = 0
    for part in printed.split(b"|"):
        value = words.number(part)
        if value is None:
            value = words.flag_word(b"CLONE_" + part)
        if value is None:
            return None
        total |= value & words.WORD_MASK
    return total


def _creation(arch: Arch, name: bytes, args: list[bytes]) -> tuple[dict[str, Any], int | None]:
    call: dict[str, Any] = {"arch": arch, "nr": words.call_number(arch, name.decode()), "args": ()}
    named = _named(args)
    if name == b"clone":
        flags = _flag_word(named.get(b"clone_flags", b"0"))
        stack, parent, child, tls = (
            words.word(named.get(field, b"0")) for field in (b"newsp", b"parent_tidptr", b"child_tidptr", b"tls")
        )
        call["args"] = (flags, stack, parent, *((tls, child) if arch in CLONE_BACKWARDS else (child, tls)))
        return call, flags
    if name == b"clone3":
        call["args"] = (words.word(named.get(b"uargs", b"0")), words.word(named.get(b"size", b"0")))
        call["struct"] = _NO_STRUCT
        return call, None
    return call, CLONE_VM | CLONE_VFORK if name == b"vfork" else 0


def _change(arch: Arch, name: bytes, args: list[bytes]) -> dict[str, Any]:
    call: dict[str, Any] = {"arch": arch, "nr": words.call_number(arch, name.decode())}
    named = _named(args)
    if name == b"unshare":
        call["args"] = (_flag_word(named.get(b"unshare_flags", b"0")),)
    elif name == b"setns":
        fd = words.word(named.get(b"fd", b"0").partition(b"<")[0], 32)
        call["args"] = (fd, _flag_word(named.get(b"nstype", named.get(b"flags", b"0"))))
    elif name == b"close_range":
        ends = (words.word(named.get(field, b"0"), 32) for field in (b"fd", b"max_fd"))
        call["args"] = (*ends, words.word(named.get(b"flags", b"0")))
    return call


def _image(_name: bytes, args: list[bytes]) -> LoggedImage:
    path = string(_named(args).get(b"filename", b""))
    return LoggedImage(_NO_PATH if path is None else text(path[0]), _NO_ARGV, None)


def _returned(line: bytes, end: int) -> Returned | None:
    if (restart := _RESTART.match(line, end)) is not None:
        return Returned(None, failed=True, errno=None, restarted=int(restart[1]) in RESTARTS)
    found = result(line, end)
    if found is None:
        return None
    errno = None if found.error is None else words.error_number(found.error)
    value = found.value if found.value is None or found.error is not None else found.value & LOW32
    return Returned(value, found.error is not None, errno, took=found.took)


DIALECT: Final = Dialect(
    creation=_creation, change=_change, image=_image, returned=_returned, interleaved=False, announces_execs=False
)


def read(source: LineSource, head: list[bytes]) -> TraceFile:
    """Read the text from its start; ``head`` are its first lines, which ``source`` gives again."""
    header = Header(
        source=Source(tool="perf trace"), clock=Clock(start=None, wall=None, resolution=1000), blind=list(_BLIND)
    )
    return trace_file(header, PerfTraceReader(), source, head)
