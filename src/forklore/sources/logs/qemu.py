"""Logs of QEMU's user mode, ``QEMU_STRACE=1`` or ``-strace``: from its lines to event records. See docs/other-tools.md.

Written against the output of QEMU 7.2 and its linux-user/strace.c. A call and its result are written apart, by several
processes into one file and without saying whose the result is: it can stand behind a call of another task, and on a
line of its own. fork and clone write theirs in the creator and in the child. So a child is told by its first line, and
a result counts where it agrees with that, or where nobody else is in a call.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final

from forklore.abi.arch import CLONE_BACKWARDS, Arch
from forklore.abi.errors import RESTARTS, errno_number
from forklore.abi.flags import CLONE_THREAD, CLONE_VFORK, CLONE_VM
from forklore.abi.units import PID_LIMIT, Unavailable
from forklore.events.lines import LineSource
from forklore.events.records import Blind, Clock, Exec, ExecFail, Header, Source, text
from forklore.events.trace_file import TraceFile
from forklore.sources.logs.assembly.dialect import (
    CALLS,
    CHANGING,
    CREATING,
    ENDING,
    EXECUTING,
    Dialect,
    LoggedCall,
    LoggedImage,
    Returned,
)
from forklore.sources.logs.assembly.tasks import Creating, LoggedTask
from forklore.sources.logs.printed import words
from forklore.sources.logs.printed.calls import arguments, members
from forklore.sources.logs.reading import CallReader, trace_file

_BLIND: Final = (
    Blind("arch", "QEMU does not name it; x86_64 is assumed"),
    Blind("kernel, host", "a log does not have them"),
    Blind(
        "threads", "a line has the process's pid: which of its threads made a call, and when one ended, is not known"
    ),
    Blind("results", "QEMU does not say whose a result is: one that may be another's is left out, or a note says so"),
    Blind("clone3", "QEMU prints no more of it than that it does not know the call, and neither words nor result"),
    Blind("programs executed", "QEMU traces them only where the kernel runs them by QEMU, too (binfmt_misc)"),
    Blind("arguments", "QEMU does not mark quotes within strings"),
    Blind("signals", "a line of one has no pid"),
    Blind("sharing", "nothing was observed, only asked for"),
    Blind("parents", "a log does not tell who waits for a task after its parent ended"),
)

_START: Final = re.compile(rb"(?P<pid>\d{1,7}) (?:(?P<call>[a-z_]\w*)\(|Unknown syscall (?P<nr>\d{1,5})(?!\d))")
_NEXT: Final = re.compile(rb"\)(?=\d)")
_RESULT: Final = re.compile(rb"\s*= (\?|-?\d{1,20}|0x[0-9a-f]{1,16})(?: errno=(\d{1,4}) \()?")
_KILLED: Final = re.compile(rb"qemu: uncaught target signal (\d{1,2}) ")
_IMAGE: Final = re.compile(rb'"([^"]*)",\{(?:"(.*)",)?NULL\}\)', re.DOTALL)
_CLONE3: Final = 435
"""Its number on every architecture."""
_ENOSYS: Final = errno_number("ENOSYS")
"""What QEMU's own clone never returns, and much of what new tasks call does."""
_LATER: Final = 2000
"""After so many lines, who has exited makes no more calls."""
_BEGINS: Final = b"brk"
"""The first call of a program, and of no program between a failed execve and what it does then."""
_ARCH: Final = Arch.X86_64


class QemuReader(CallReader):
    """The state between two lines."""

    def __init__(self) -> None:
        super().__init__(DIALECT, _ARCH)
        self._in_call: dict[LoggedTask, None] = {}
        """Who is in a call whose result has not been seen."""
        self._threads: Counter[LoggedTask] = Counter()
        """How many more threads have a task's pid."""
        self._ended: set[LoggedTask] = set()
        """The tasks of whose threads some have ended."""
        self._unseen: set[int] = set()
        """The pids of children that have written nothing, and so may yet write their creation's 0."""
        self._hints: dict[int, Creating] = {}
        """By pids that are results of creations, unless they are those of other calls."""
        self._execs: dict[LoggedTask, tuple[LoggedImage, int | None]] = {}
        """What tasks have tried to execute, with the errno that stood behind it."""
        self._leaving: dict[LoggedTask, tuple[int, int | None]] = {}
        """In which line tasks have exited, and with what code: a pid can stand before another's call."""

    def feed(self, line: bytes, number: int) -> None:
        """Take the next line."""
        self.order.line = number
        while self._leaving and next(iter(self._leaving.values()))[0] + _LATER < number:
            self._left(next(iter(self._leaving)))
        begins = [0, *(match.end() for match in _NEXT.finditer(line))]
        starts = [start for begin in begins if (start := _START.match(line, begin)) is not None]
        end = starts[0].start() if starts else len(line)
        if end:
            self._beside(line[:end], line)
        ends = [*(start.start() for start in starts[1:]), len(line)]
        for start, until in zip(starts, ends, strict=False):
            self._record(start, line[start.end() : until])

    def finish(self) -> None:
        """The log has ended: who executed something and was not seen again runs that."""
        for task in list(self._leaving):
            self._left(task)
        for task in list(self._execs):
            self._executed(task, _BEGINS)

    def _record(self, start: re.Match[bytes], rest: bytes) -> None:
        if (pid := int(start["pid"])) == 0 or pid >= PID_LIMIT:
            return
        task, name = self._whose(pid), start["call"]
        self._unseen.discard(pid)
        if self._leaving.pop(task, None) is not None:
            self.order.notices.add("exits of a pid that makes more calls", self.order.line)
        self._executed(task, name or b"")
        self._in_call.pop(task, None)
        if name is None:
            if int(start["nr"]) == _CLONE3:
                self.order.notices.add("calls of clone3 that QEMU does not know", self.order.line)
            return
        if name not in CALLS:
            if b") = " not in rest:
                self._in_call[task] = None
            return
        image = _IMAGE.match(rest) if name in EXECUTING else None
        args, end = arguments(rest, 0) if image is None else ([], image.end())
        answer = None if end is None else _returned(rest, end)
        alone = not (self._in_call or self._threads)
        if answer is None:
            self._in_call[task] = None
        if name in CREATING:
            self._creates(task, name, rest, answer, alone=alone)
        elif name in CHANGING:
            sure = alone and (answer is None or answer.value != 0 or not self._unseen)
            self.calls.call(task, LoggedCall(name, rest if sure else rest[:end] + b" = ?", None), None)
        elif name in EXECUTING and end is not None:
            self._execs[task] = _image(name, [rest]), None if answer is None else answer.errno
        elif name == b"exit" and task in self._threads:
            self._ended.add(task)
            self._threads[task] -= 1
            self._threads += Counter()  # keeps those above 0
        elif name in ENDING:
            self._leaving[task] = self.order.line, words.word(args[0], 8) if args else None

    def _whose(self, pid: int) -> LoggedTask:
        hint = self._hints.pop(pid, None)
        former = self.order.tasks.get(pid)
        if hint is not None and hint.task.creating is hint and (former is None or former in self._leaving):
            self._made(hint, pid)
        return self.order.task(pid, None)

    def _beside(self, line: bytes, whole: bytes) -> None:
        """What stands before a record, or is none: often a result."""
        if killed := _KILLED.search(line):
            lives = [task for task in self.order.tasks.values() if task not in self._leaving]
            if len(lives) == 1:
                self.order.exit(lives[0], None, int(killed[1]) & 0x7F)
            else:
                self.order.notices.add("signals that ended one of several tasks", self.order.line)
            return
        answer = _returned(line, 0)
        if answer is None:
            self.not_understood(whole)
            return
        running = [task for task in self.order.tasks.values() if task.creating is not None]
        if answer.value and not answer.failed and len(running) == 1 and running[0].creating is not None:
            self._result(running[0].creating, answer.value, alone=len(self._in_call) <= 1 and not self._threads)
        if len(self._in_call) == 1:
            self._in_call.clear()

    # Calls

    def _creates(self, task: LoggedTask, name: bytes, rest: bytes, answer: Returned | None, *, alone: bool) -> None:
        if answer is not None and answer.failed and (alone or answer.errno != _ENOSYS):
            self.order.matching.abandon(task)
            self.calls.call(task, LoggedCall(name, rest, None), None)
            if not alone:
                self.order.note("result", "others were in calls: the error may be that of one of theirs", None, task)
            return
        fields, flags = _creation(_ARCH, name, arguments(rest, 0)[0])
        if (flags or 0) & CLONE_THREAD:
            self._threads[task] += 1
        made = self.order.begin(task, None, fields, flags)
        if (flags or 0) & CLONE_THREAD:
            made.until = 0  # its line has its process's pid: whatever shows with another one is none of its
        if answer is not None and answer.value and not answer.failed:
            self._result(made, answer.value, alone=alone)
        if task.creating is made:
            self._in_call[task] = None

    def _result(self, made: Creating, pid: int, *, alone: bool) -> None:
        if not 0 < pid < PID_LIMIT:
            return
        shown = self.order.tasks.get(pid)
        if shown is None and not alone and not (made.flags or 0) & CLONE_THREAD:
            self._hints[pid] = made
        elif shown is None or (shown.slot is not None and shown is not made.task):
            self._made(made, pid)

    def _made(self, made: Creating, pid: int) -> None:
        self._in_call.pop(made.task, None)
        former = self.order.tasks.get(pid)
        if former in self._leaving and former is not None:
            self._left(former)
        if pid not in self.order.tasks and not (made.flags or 0) & CLONE_THREAD:
            self._unseen.add(pid)
        self.order.created(made, None, pid)

    def _executed(self, task: LoggedTask, then: bytes) -> None:
        """A task that tried to execute something makes a call: which one tells whether it runs that."""
        image, errno = self._execs.pop(task, (None, None))
        if image is None:
            return
        if then == _BEGINS:
            self.order.executed(task, Exec(t=None, task=task.id, path=image.path, argv=image.argv))
        elif errno is not None:
            self.order.emit(ExecFail(t=None, task=task.id, path=image.path, argv=image.argv, errno=errno))
        else:
            self.order.notices.add("ends of an execve that the log does not show", self.order.line)

    def _left(self, task: LoggedTask) -> None:
        _, code = self._leaving.pop(task)
        self._threads.pop(task, None)
        for other in [one for one in self.order.tasks.values() if one.group is task.group]:
            # Which threads had ended before, and how, is not known.
            told = code is not None and (other is task or task not in self._ended)
            self.order.exit(other, None, (code or 0) << 8 if told else None)
            self._in_call.pop(other, None)


# How QEMU prints calls


def _creation(arch: Arch, name: bytes, args: list[bytes]) -> tuple[dict[str, Any], int | None]:
    call: dict[str, Any] = {"arch": arch, "nr": words.call_number(arch, name.decode()), "args": ()}
    if name == b"clone3":
        call["struct"] = Unavailable(errno=0, why="QEMU prints nothing of it")
        return call, None
    if name != b"clone":
        return call, CLONE_VM | CLONE_VFORK if name == b"vfork" else 0
    flags = words.flag_word(args[0]) if args else None
    named = members(b",".join(args[1:]))
    stack, parent, tls, child = (
        words.word(named.get(field, b"")) for field in (b"child_stack", b"parent_tidptr", b"tls", b"child_tidptr")
    )
    call["args"] = (flags, stack, parent, *((tls, child) if arch in CLONE_BACKWARDS else (child, tls)))
    return call, flags


def _change(arch: Arch, name: bytes, args: list[bytes]) -> dict[str, Any]:
    call: dict[str, Any] = {"arch": arch, "nr": words.call_number(arch, name.decode())}
    if name == b"unshare":
        call["args"] = (words.flag_word(args[0]) if args else None,)
    elif name != b"setsid":
        call["args"] = tuple(words.word(arg, 32) for arg in args[: 2 if name == b"setns" else 3])
    return call


def _image(_name: bytes, args: list[bytes]) -> LoggedImage:
    match = _IMAGE.match(args[0])
    if match is None:
        not_printed = Unavailable(errno=0, why="the log does not have it whole")
        return LoggedImage(not_printed, not_printed, None)
    argv = [] if match[2] is None else [text(arg) for arg in match[2].split(b'","')]
    return LoggedImage(text(match[1]), argv, None)


def _returned(line: bytes, end: int) -> Returned | None:
    match = _RESULT.match(line, end)
    if match is None:
        return None
    errno = None if match[2] is None else int(match[2])
    return Returned(words.number(match[1]), errno is not None, errno, errno in RESTARTS)


DIALECT: Final = Dialect(
    creation=_creation,
    change=_change,
    image=_image,
    returned=_returned,
    interleaved=False,
    announces_execs=False,
)


def read(source: LineSource, head: list[bytes]) -> TraceFile:
    """Read a log from its start; ``head`` are its first lines, which ``source`` gives again."""
    header = Header(source=Source(tool="qemu"), clock=Clock(start=None, wall=None), blind=list(_BLIND))
    return trace_file(header, QemuReader(), source, head)
