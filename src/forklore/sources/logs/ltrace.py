"""Logs of ``ltrace -S -f``: from its lines to event records, line by line. See docs/other-tools.md.

Written against ltrace 0.7.3's own output (``SYS_clone(...)``, ``SYS_435(...)``) and the ``clone@SYS(...)`` of
newer versions. ltrace prints raw numbers, so the words of clone are whole; of clone3 it has only the pointer.
The program's own output can stand between and within the lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final, NamedTuple

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.errors import MAX_ERRNO, RESTARTS
from forklore.abi.flags import CLONE_NEWPID, CLONE_VFORK, CLONE_VM
from forklore.events.lines import LineSource, escaped
from forklore.events.records import (
    Absent,
    Blind,
    Clock,
    Event,
    Exec,
    ExecFail,
    Fail,
    Header,
    Other,
    Source,
    Text,
    text,
)
from forklore.events.trace_file import TraceFile
from forklore.sources.logs import words
from forklore.sources.logs.assembly import TID_LIMIT, Assembler, Notices, Task
from forklore.sources.logs.text import arguments, result, string
from forklore.sources.logs.time_stamps import CREATION_NAMED, PATTERN, Stamps

_PREFIX: Final = rb"(?:\[pid +(?P<pid>\d{1,7})\] |(?P<num>\d{1,7}) ++)?"
_RECORD: Final = (
    rb"(?:\[0x[0-9a-f]+\] )?"
    rb"(?:SYS_(?P<sys>\w+)\(|(?P<at>\w+)@SYS\(|(?:[\w.+-]+->)?(?P<lib>[A-Za-z_]\w*)(?:@[\w.]+)?\("
    rb"|<\.\.\. (?P<resumed>[\w@]+) resumed>|(?P<mark>---|\+\+\+) )"
)
_LINE: Final = re.compile(_PREFIX + PATTERN + _RECORD)
_INNER: Final = re.compile(rb"\[pid +\d{1,7}\] |SYS_\w{1,40}\(|\b\w{1,40}@SYS\(")
_PENDING: Final = re.compile(rb"<(?:unfinished|no return) \.\.\.>\s*+\Z")
_EXITED: Final = re.compile(rb"exited \(status (\d{1,3})\)")
_KILLED: Final = re.compile(rb"killed by (\w+)")
_CREATING: Final = {b"fork": 0, b"vfork": 0, b"clone": 5, b"clone3": 2}
_CHANGING: Final = {b"unshare": 1, b"setns": 2, b"close_range": 3, b"setsid": 0}
_EXECUTING: Final = frozenset({b"execve", b"execveat"})
_ENDING: Final = frozenset({b"exit", b"exit_group"})
_NAMING: Final = frozenset({b"getpid", b"gettid", b"set_tid_address"})
_CALLS: Final = frozenset({*_CREATING, *_CHANGING, *_EXECUTING, *_ENDING, *_NAMING})
_LIBRARY: Final = frozenset({b"fork", b"vfork", b"clone", b"_Fork"})
_UNKNOWN_TID: Final = 0
_JOINED_LIMIT: Final = 1 << 16
_JOINS_LIMIT: Final = 64
_ARGV: Final = Absent(errno=0, why="ltrace prints only the address of the arguments")
_VFORK_FLAGS: Final = CLONE_VM | CLONE_VFORK
_ARCH: Final = Arch.X86_64
_INTS: Final = frozenset({b"setns", b"close_range"})

BLIND: Final = (
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
    Blind("thread groups", "a task made by clone3 counts as a process: the log does not have its flags"),
)


class _Open(NamedTuple):
    name: bytes
    head: bytes
    began: int | None


class LtraceReader:
    """The state between two lines. :meth:`feed` takes the lines in order, ``assembler`` has the events."""

    def __init__(self) -> None:
        self.notices = Notices()
        self.assembler = Assembler(self.notices, _ARCH)
        self.stamps = Stamps()
        self._numbered = False
        self._bracketed = False
        self._joins = 0
        self._cut: tuple[Task, _Open] | None = None

    def feed(self, line: bytes, number: int) -> None:
        """Take the next line."""
        self.assembler.line = number
        match = _LINE.match(line)
        if match is None or not self._is_record(match):
            self._no_record(line, number)
            return
        if self._cut is not None and self._cut[1].name in _CREATING:
            self.notices.add("creations cut off in the middle of the line", number - 1)
        self._cut = None
        self._joins = 0
        t = self.stamps.take(match)
        task = self._whose(match, t)
        if task is None:
            self._not_understood(line)
        elif match["lib"] is not None:
            if match["lib"] in _LIBRARY:
                self._library(task, line[match.start("lib") :], match["lib"], t)
        elif (called := match["sys"] or match["at"]) is not None:
            name = _call_name(called)
            if name in _CALLS:
                self._call(task, _Open(name, line[match.end() :], t), t)
        elif match["resumed"] is not None:
            self._resumed(task, match["resumed"], line[match.end() :], t)
        elif match["mark"] == b"+++":
            self._ended(task, line[match.end() :], t)
        elif line.startswith(b"Called exec()", match.end()):
            self._executes(task, t)

    def _is_record(self, match: re.Match[bytes]) -> bool:
        """A line without the prefix that the others have is the program's own."""
        if match["num"] is not None:
            self._numbered = True
        elif match["pid"] is not None:
            self._bracketed = True
        else:
            return not (self._numbered or self._bracketed)
        return True

    def _whose(self, match: re.Match[bytes], t: int | None) -> Task | None:
        prefix = match["num"] or match["pid"]
        tid = _UNKNOWN_TID if prefix is None else int(prefix)
        if tid >= TID_LIMIT:
            return None
        nameless = self.assembler.tasks.get(_UNKNOWN_TID)
        if tid == _UNKNOWN_TID:
            return nameless or self.assembler.sole() or self.assembler.task(tid, t)
        if nameless is not None and tid not in self.assembler.tasks:
            self.assembler.name_root(nameless, tid)
        return self.assembler.task(tid, t)

    def _no_record(self, line: bytes, number: int) -> None:
        inner = _INNER.search(line)
        match = _LINE.match(line, inner.start()) if inner is not None and inner.start() else None
        if match is not None and self._is_record(match):
            self.feed(line[match.start() :], number)
            return
        if self._cut is not None:
            task, call = self._cut
            self._cut = None
            self._joins += 1
            if len(call.head) > _JOINED_LIMIT or self._joins > _JOINS_LIMIT:
                return
            self._call(task, call._replace(head=call.head + line), call.began)
            return
        self._not_understood(line)

    def _not_understood(self, line: bytes) -> None:
        if CREATION_NAMED.search(line):
            self.notices.add("lines that name a creation and are not understood", self.assembler.line)

    # Calls

    def _library(self, task: Task, line: bytes, name: bytes, t: int | None) -> None:
        """A library call that makes a task: what there is of it where the log has no system calls (no -S)."""
        made = self.assembler.begin(task, t, {"arch": _ARCH, "nr": None}, None)
        if _PENDING.search(line):
            return
        args_end = arguments(line, line.index(b"(") + 1)[1]
        answer = None if args_end is None else result(line, args_end)
        if answer is None or answer.value is None:
            self.notices.add(f"lines with {name.decode()} that are cut off", self.assembler.line)
            self.assembler.abandon(task)
        elif 0 < answer.value < TID_LIMIT:
            self.assembler.created(made, t, answer.value)
        else:
            self.assembler.drop(made)

    def _call(self, task: Task, call: _Open, t: int | None) -> None:
        pending = _PENDING.search(call.head)
        args, end = arguments(call.head, 0)
        if pending is not None:
            call = call._replace(head=call.head[: pending.start()].rstrip())
            args, end = arguments(call.head, 0)
        if pending is None and end is not None:
            self._completes(task, call, t)
            return
        task.open = call
        if call.name in _CREATING:
            fields, flags = _creation(call.name, args)
            self.assembler.begin(task, call.began, fields, flags, again=True)
        elif call.name in _EXECUTING:
            self.assembler.executing[task] = None
        elif call.name in _ENDING:
            self._leaves(task, call.name, args, t)
        if pending is None:
            self._cut = (task, call._replace(head=call.head.rstrip()))

    def _resumed(self, task: Task, name: bytes, rest: bytes, t: int | None) -> None:
        if name.startswith(b"SYS_") or name.endswith(b"@SYS"):
            plain = _call_name(name.removeprefix(b"SYS_").removesuffix(b"@SYS"))
            call: _Open | None = task.open
            if plain not in _CALLS:
                return
            if call is None or call.name != plain:
                if plain in _CREATING:
                    self.notices.add("creations of which the log has only the end", self.assembler.line)
                return
            self._completes(task, call._replace(head=call.head + rest), t)
        elif name in _LIBRARY and task.creating is not None and task.open is None:
            answer = result(rest, rest.find(b")") + 1)
            if answer is not None and answer.value is not None and 0 < answer.value < TID_LIMIT:
                self.assembler.created(task.creating, t, answer.value)
            else:
                self.assembler.drop(task.creating)

    def _completes(self, task: Task, call: _Open, t: int | None) -> None:
        task.open = None
        self.assembler.executing.pop(task, None)
        args, end = arguments(call.head, 0)
        answer = None if end is None else result(call.head, end)
        value = None if answer is None else answer.value
        if call.name in _ENDING:
            self._leaves(task, call.name, args, t)
        elif call.name in _NAMING:
            if value is not None and 0 < value < TID_LIMIT:
                self.assembler.name_root(task, value)
        elif call.name in _CREATING:
            self._created(task, call, args, value, t)
        elif call.name in _EXECUTING:
            if value is not None and value < 0:
                self.assembler.emit(
                    ExecFail(t=t, task=task.id, path=_path(call.name, args)[0], argv=_ARGV, errno=-value)
                )
            else:
                task.open = call
                self.assembler.executing[task] = None
                if value == 0:
                    self._executes(task, t)
        else:
            self._changed(task, call.name, args, value, t)

    def _created(self, task: Task, call: _Open, args: list[bytes], value: int | None, t: int | None) -> None:
        fields, flags = _creation(call.name, args)
        made = self.assembler.begin(task, call.began, fields, flags, again=True)
        if value is None:
            self.notices.add(f"lines with {call.name.decode()} that are cut off", self.assembler.line)
            self.assembler.abandon(task)
        elif 0 < value < TID_LIMIT:
            self.assembler.created(made, t, value)
        else:
            self.assembler.drop(made)
            if -MAX_ERRNO <= value < 0:
                if -value not in RESTARTS:
                    self.assembler.emit(Fail(t=t, task=task.id, errno=-value, **fields))
            elif value:
                self.notices.add("creations that returned no possible pid", self.assembler.line)

    def _changed(self, task: Task, name: bytes, args: list[bytes], value: int | None, t: int | None) -> None:
        given = tuple(words.word(arg, 32 if name in _INTS else 64) for arg in args[: _CHANGING[name]])
        nr = words.call_number(_ARCH, name.decode())
        self.assembler.emit(Other(t=t, task=task.id, arch=_ARCH, nr=nr, args=given, result=value))
        if value == 0 and name in (b"unshare", b"setns") and given and (given[-1] or 0) & CLONE_NEWPID:
            task.children_inner = True

    # Exec and exit

    def _executes(self, task: Task, t: int | None) -> None:
        call: _Open | None = task.open
        former = None
        if call is None or call.name not in _EXECUTING:
            others = self.assembler.others_executing(task)
            could = [x for x in others if x.open is not None and x.open.name in _EXECUTING]
            if len(could) != 1:
                self.notices.add("programs executed without a call of it in the log", self.assembler.line)
                return
            call = could[0].open
            former = could[0].tid
            self.assembler.takes_over(could[0], task.tid, t)
            task = could[0]
        if call is None:
            return
        task.open = None
        path, whole = _path(call.name, arguments(call.head, 0)[0])
        event = Exec(t=t, task=task.id, path=path, argv=_ARGV, former_tid=former, began=call.began)
        self.assembler.executed(task, event)
        if not whole:
            self.assembler.note("path", "ltrace printed only its beginning", t, task)

    def _leaves(self, task: Task, name: bytes, args: list[bytes], t: int | None) -> None:
        status = words.word(args[0], 8) if args else None
        if status is None:
            return
        if name == b"exit":
            task.leaving = (status << 8, t)
        elif task.group.group_leaving is None:
            task.group.group_leaving = (status << 8, t)

    def _ended(self, task: Task, line: bytes, t: int | None) -> None:
        if exited := _EXITED.match(line):
            self.assembler.exit(task, t, (int(exited[1]) & 0xFF) << 8)
        elif killed := _KILLED.match(line):
            self.assembler.exit(task, t, words.signal_word(killed[1]))
        elif line.startswith(b"exited"):
            self.assembler.exit(task, t, None)


def _call_name(name: bytes) -> bytes:
    """A call that this ltrace has no name for is printed by its number."""
    if name.isdigit() and len(name) <= 4:
        return (syscalls.name(_ARCH, int(name)) or "").encode()
    return name


def _creation(name: bytes, args: list[bytes]) -> tuple[dict[str, Any], int | None]:
    count = _CREATING[name]
    given: list[int | None] = [words.word(arg) for arg in args[:count]]
    given += [None] * (count - len(given))
    call: dict[str, Any] = {
        "arch": _ARCH,
        "nr": words.call_number(_ARCH, name.decode()),
        "args": tuple(given),
    }
    if name == b"clone3":
        call["struct"] = Absent(errno=0, why="ltrace prints only the address of the struct")
        return call, None
    if name == b"clone":
        return call, given[0]
    return call, _VFORK_FLAGS if name == b"vfork" else 0


def _path(name: bytes, args: list[bytes]) -> tuple[Text | Absent, bool]:
    place = 0 if name == b"execve" else 1
    value = string(args[place]) if len(args) > place else None
    if value is None:
        return Absent(errno=0, why="ltrace printed no string for it"), True
    return text(value[0]), value[1]


def read(source: LineSource, head: list[bytes]) -> TraceFile:
    """Read a log from its start; ``head`` are its first lines, which ``source`` gives again."""
    stamps = Stamps()
    for line in head:
        match = _LINE.match(line)
        if match is not None:
            stamps.take(match)
            break
    warnings: list[str] = []
    header = Header(source=Source(tool="ltrace"), clock=Clock(start=None, wall=stamps.wall), blind=list(BLIND))
    return TraceFile(header, _events(source, warnings), warnings, source)


def _events(source: LineSource, warnings: list[str]) -> Iterator[Event]:
    reader = LtraceReader()
    assembler = reader.assembler
    with closing(source):
        for line in source:
            if source.overlong:
                reader.notices.add("lines too long to read", source.number)
                continue
            reader.feed(line, source.number)
            if assembler.queue:
                yield from assembler.ready()
    yield from assembler.finish(reader.stamps.last)
    warnings.extend(reader.notices.texts(escaped(source.name)))
