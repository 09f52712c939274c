"""Logs of ``ltrace``, best with ``-S -f``: from its lines to event records, line by line. See docs/other-tools.md.

Written against ltrace 0.7.3's own output (``SYS_clone(...)``, ``SYS_435(...)``) and the ``clone@SYS(...)`` of
newer versions. ltrace prints raw numbers, so the words of clone are whole; of clone3 it has only the pointer.
The program's own output can stand between and within the lines.
"""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any, Final

from forklore.abi.errors import MAX_ERRNO
from forklore.abi.units import PID_LIMIT
from forklore.decode.library_forms import PROCESS_CALLS, THREAD_CALLS
from forklore.events.lines import LineSource
from forklore.events.records import UNKNOWN_TID, Blind, Exec, Fail, Header, Source
from forklore.events.trace_file import TraceFile
from forklore.sources.logs.assembly.assembler import PENDING
from forklore.sources.logs.assembly.dialect import CALLS, CREATING, LoggedCall
from forklore.sources.logs.assembly.tasks import Creating, LoggedTask
from forklore.sources.logs.ltrace.calls import ARCH, ARGV_NOT_PRINTED, DIALECT, PATH_NOT_PRINTED, call_name
from forklore.sources.logs.pasted import bare
from forklore.sources.logs.printed import words
from forklore.sources.logs.printed.calls import Result, arguments, result
from forklore.sources.logs.printed.time_stamps import PATTERN, Stamps
from forklore.sources.logs.reading import CallReader, trace_file

_BLIND: Final = (
    Blind("arch", "ltrace does not name it; x86_64 is assumed"),
    Blind("kernel, host", "a log does not have them"),
    Blind("clone3 struct", "ltrace prints only its address, so flags, stack and signal are not known"),
    Blind(
        "exec arguments",
        "ltrace prints only their address, and at most 32 characters of the path (ltrace -s)",
    ),
    Blind("signals", "ltrace does not tell where a signal came from, nor whether memory was dumped"),
    Blind("sharing", "nothing was observed, only asked for"),
    Blind("parents", "a log does not tell who waits for a task after its parent ended"),
    Blind("thread groups", "what clone3 made outside of a library's known function counts as a process of its own"),
)
_NO_CHILDREN: Final = Blind(
    "children",
    "ltrace was run without -f: the log has nothing of what they did, and those of system, popen, posix_spawn and "
    "pthread_create are not in it",
)
_NO_SYSTEM_CALLS: Final = Blind(
    "system calls",
    "ltrace was run without -S: the log has the library's functions; the calls that they made of the kernel, "
    "their flags, and why fork() returned -1 are not known",
)
_NO_CREATORS: Final = Blind(
    "creators",
    "system, popen, posix_spawn and pthread_create return no pid: their child is the task that came up when nothing "
    "else in the log can have made it; a function that the log does not have (ltrace -e) could have",
)

_PREFIX: Final = rb"(?:\[pid +(?P<pid>\d{1,7})\] |(?P<num>\d{1,7}) ++)?"
_RECORD: Final = (
    rb" *+(?:\[0x[0-9a-f]+\] )? *+"
    rb"(?:SYS_(?P<sys>\w+)\(|(?P<at>\w+)@SYS\(|(?:[\w.+-]+->)?(?P<lib>[A-Za-z_]\w*)(?:@[\w.]+)?\("
    rb"|<\.\.\. (?P<resumed>[\w@]+) resumed>|(?P<mark>---|\+\+\+) )"
)
_LINE: Final = re.compile(_PREFIX + PATTERN + _RECORD)
_INNER: Final = re.compile(rb"\[pid +\d{1,7}\] |SYS_\w{1,40}\(|\b\w{1,40}@SYS\(")
_EXITED: Final = re.compile(rb"exited \(status (\d{1,3})\)")
_KILLED: Final = re.compile(rb"killed by (\w+)")
_PID: Final = frozenset({"fork", "_Fork", "vfork", "forkpty", "clone", "syscall"})
"""Library calls that return the child's pid, or -1."""
_ERROR: Final = frozenset(
    {"pthread_create", "thrd_create", "posix_spawn", "posix_spawnp", "pidfd_spawn", "pidfd_spawnp"}
)
"""Library calls that return 0, or why they failed: of all but thrd_create an errno."""
_MAKERS: Final = PROCESS_CALLS | THREAD_CALLS | _PID
_NAMED: Final = {name.encode(): name for name in _MAKERS}
_TWICE: Final = _PID - {"clone"} | {"daemon"}
"""Library calls that return in the child as well, which the log shows before anything else of it."""
_RETURNS_TWICE: Final = {name.encode(): frozenset({name}) for name in _TWICE}
_EXECUTING: Final = frozenset(
    name.encode()
    for name in ("execve", "execv", "execl", "execle", "execvp", "execvpe", "execlp", "fexecve", "execveat")
)
_FAILED: Final = (-1, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)
_SHELL_MISSING: Final = 127 << 8


class LtraceReader(CallReader):
    """The state between two lines."""

    def __init__(self) -> None:
        super().__init__(DIALECT, ARCH)
        self._numbered = False
        self._bracketed = False
        self._system_calls = False
        self.order.follows = False

    def feed(self, line: bytes, number: int) -> None:
        """Take the next line."""
        self.order.line = number
        match = _LINE.match(line)
        if match is None or not self._is_record(match):
            self._no_record(line, number)
            return
        self.calls.next_line()
        t = self.stamps.take(match)
        task = self._whose(match, t)
        if task is None:
            self.not_understood(line)
        elif match["lib"] is not None:
            if (library := _NAMED.get(match["lib"])) is not None:
                self._library(task, line[match.end() :], library, t)
            elif match["lib"] in _EXECUTING and not self._system_calls and PENDING.search(line):
                # Those that end with a p are given a name that they look for.
                given = b"<no return ...>" if match["lib"].rstrip(b"e").endswith(b"p") else line[match.end() :]
                self.calls.call(task, LoggedCall(b"execve", given, t), t)
        elif (called := match["sys"] or match["at"]) is not None:
            self._system_calls = True
            name = call_name(called)
            if name in CALLS:
                self.calls.call(task, LoggedCall(name, line[match.end() :], t), t)
        elif match["resumed"] is not None:
            self._resumed(task, match["resumed"], line[match.end() :], t)
        elif match["mark"] == b"+++":
            self._ended(task, line[match.end() :], t)
        elif line.startswith(b"Called exec()", match.end()):
            self._executes(task, t)

    def _executes(self, task: LoggedTask, t: int | None) -> None:
        threads = [one for one in self.order.tasks.values() if one.group is task.group and one is not task]
        task.within.clear()
        if self._system_calls or any(one in self.order.executing for one in (task, *threads)):
            self.calls.executes(task, t)
            return
        self.order.executed(task, Exec(t=t, task=task.id, path=PATH_NOT_PRINTED, argv=ARGV_NOT_PRINTED))
        if threads:
            self.order.note("exec", "the log has no call of it, which any thread of the process can have made", t, task)

    def _is_record(self, match: re.Match[bytes]) -> bool:
        """A line without the prefix that the others have is the program's own."""
        if match["num"] is not None:
            self._numbered = True
        elif match["pid"] is not None:
            self._bracketed = True
        else:
            return not (self._numbered or self._bracketed)
        self.order.follows = True
        return True

    def _whose(self, match: re.Match[bytes], t: int | None) -> LoggedTask | None:
        prefix = match["num"] or match["pid"]
        tid = UNKNOWN_TID if prefix is None else int(prefix)
        if tid >= PID_LIMIT:
            return None
        nameless = self.order.tasks.get(UNKNOWN_TID)
        if tid == UNKNOWN_TID:
            return nameless or self.order.sole() or self.order.task(tid, t)
        if nameless is not None and tid not in self.order.tasks:
            self.order.name_root(nameless, tid)
        return self.order.task(tid, t, None if self._system_calls else _makers(match))

    def _no_record(self, line: bytes, number: int) -> None:
        inner = _INNER.search(line)
        match = _LINE.match(line, inner.start()) if inner is not None and inner.start() else None
        if match is not None and self._is_record(match):
            self.feed(line[match.start() :], number)
            return
        joined = self.calls.joined(line)
        if joined is None:
            self.not_understood(line)
            return
        task, call = joined
        self.calls.call(task, call, call.began, joined=True)

    # Calls

    def _library(self, task: LoggedTask, text: bytes, name: str, t: int | None) -> None:
        """A library call that makes a task: all that there is of it where the log has no system calls (no -S)."""
        pending = PENDING.search(text)
        args, args_end = arguments(text if pending is None else text[: pending.start()], 0)
        call: dict[str, Any] = {"arch": ARCH, "nr": None}
        flags = None
        if name == "syscall":
            called = call_name(args[0]) if args else b""
            if called not in CREATING:
                return
            call, flags = DIALECT.creation(ARCH, called, args[1:])
        task.within.append(name)
        if len(task.within) == 1 and (name in _PID or not self._system_calls):
            made = self.order.begin(task, t, call, flags, library=True)
            made.certain = name == "daemon"  # the parent does not return from it
        if pending is not None:
            return
        self._returned(task, name, t, None if args_end is None else result(text, args_end))

    def _resumed(self, task: LoggedTask, name: bytes, rest: bytes, t: int | None) -> None:
        if name.startswith(b"SYS_") or name.endswith(b"@SYS"):
            plain = call_name(name.removeprefix(b"SYS_").removesuffix(b"@SYS"))
            if plain in CALLS:
                self.calls.resumed(task, plain, rest, t)
        elif name in _EXECUTING and not self._system_calls:  # it returned: it failed
            task.open = None
            self.order.executing.pop(task, None)
        elif name in _NAMED and (library := _NAMED[name]) in task.within and not PENDING.search(rest):
            del task.within[task.within.index(library) + 1 :]
            args_end = arguments(rest, 0)[1]
            self._returned(task, library, t, None if args_end is None else result(rest, args_end))

    def _returned(self, task: LoggedTask, name: str, t: int | None, answer: Result | None) -> None:
        task.within.pop()
        made = task.creating
        if task.within or made is None or not made.library:
            return
        value = None if answer is None else answer.value
        if value is None:
            self.order.notices.add(f"lines with {name} that are cut off", self.order.line)
            self.order.matching.abandon(task)
        elif name in _PID and value not in _FAILED:
            if 0 < value < PID_LIMIT:
                self.order.created(made, t, value)
            else:
                self.order.matching.drop(made)
        elif errno := _failed(name, value):
            # What of the others failed can be what the child did.
            mine = name in THREAD_CALLS | _PID
            if mine or not self.order.matching.returned(made, certain=False):
                self.order.matching.drop(made)
                if mine or self.order.follows:
                    self._refused(made, t, errno)
        elif not self.order.follows:
            self.order.matching.drop(made)
        else:
            self.order.matching.returned(made, certain=name in _ERROR or name in ("system", "popen"))

    def _refused(self, made: Creating, t: int | None, errno: int) -> None:
        self.order.emit(Fail(t=t, task=made.task.id, errno=errno if errno > 0 else None, **made.call))

    def _ended(self, task: LoggedTask, line: bytes, t: int | None) -> None:
        if exited := _EXITED.match(line):
            self.order.exit(task, t, (int(exited[1]) & 0xFF) << 8)
        elif killed := _KILLED.match(line):
            self.order.exit(task, t, words.signal_word(killed[1]))
        elif line.startswith(b"exited"):
            self.order.exit(task, t, None)


def _makers(match: re.Match[bytes]) -> Set[str] | None:
    """The library's functions that can have made the task whose first line this is; None: any."""
    resumed = match["resumed"]
    if resumed is not None:
        return _RETURNS_TWICE.get(resumed)
    if match["lib"] is not None:  # a child of the others runs no code of the program's before it executes another
        return THREAD_CALLS
    executes = match.string.startswith(b"Called exec()", match.end())
    return (PROCESS_CALLS if executes else _MAKERS) - _TWICE


def _failed(name: str, value: int) -> int:
    """The errno of a library call that made no task, or that of what its child did; -1: not told; 0: it made one."""
    if name in _ERROR:
        return 0 if value == 0 else value if name != "thrd_create" and 0 < value <= MAX_ERRNO else -1
    if name == "system":
        return -1 if value in (*_FAILED, _SHELL_MISSING) else 0
    if name == "popen":
        return -1 if value == 0 else 0
    return -1 if name != "wordexp" and value in _FAILED else 0


def read(source: LineSource, head: list[bytes]) -> TraceFile:
    """Read a log from its start; ``head`` are its first lines, which ``source`` gives again."""
    stamps = Stamps()
    follows = system_calls = False
    for line in head:
        match = _LINE.match(bare(line))
        if match is not None:
            if stamps.wall is None:
                stamps.take(match)
            follows = follows or match["num"] is not None or match["pid"] is not None
            system_calls = system_calls or match["sys"] is not None or match["at"] is not None
    blind = [*_BLIND]
    if not follows:
        blind.append(_NO_CHILDREN)
    if not system_calls:
        blind.append(_NO_SYSTEM_CALLS)
    if follows and not system_calls:
        blind.append(_NO_CREATORS)
    header = Header(source=Source(tool="ltrace"), clock=stamps.header(), blind=blind)
    return trace_file(header, LtraceReader(), source, head)
