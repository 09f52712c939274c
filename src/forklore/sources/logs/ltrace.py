"""Logs of ``ltrace -S -f``: from its lines to event records, line by line. See docs/other-tools.md.

Written against ltrace 0.7.3's own output (``SYS_clone(...)``, ``SYS_435(...)``) and the ``clone@SYS(...)`` of
newer versions. ltrace prints raw numbers, so the words of clone are whole; of clone3 it has only the pointer.
The program's own output can stand between and within the lines.
"""

from __future__ import annotations

import re
from typing import Any, Final

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.errors import MAX_ERRNO, RESTARTS
from forklore.abi.flags import CLONE_VFORK, CLONE_VM
from forklore.abi.units import PID_LIMIT, Unavailable
from forklore.events.lines import LineSource
from forklore.events.records import UNKNOWN_TID, Blind, Clock, Header, Source, text
from forklore.events.trace_file import TraceFile
from forklore.sources.logs import words
from forklore.sources.logs.assembly import PENDING
from forklore.sources.logs.dialect import CALLS, Dialect, LoggedCall, LoggedImage, Returned
from forklore.sources.logs.pasted import bare
from forklore.sources.logs.reading import LogReader, trace_file
from forklore.sources.logs.tasks import LoggedTask
from forklore.sources.logs.text import arguments, result, string
from forklore.sources.logs.time_stamps import PATTERN, Stamps

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
    Blind("thread groups", "a task made by clone3 counts as a process: the log does not have its flags"),
)

_PREFIX: Final = rb"(?:\[pid +(?P<pid>\d{1,7})\] |(?P<num>\d{1,7}) ++)?"
_RECORD: Final = (
    rb"(?:\[0x[0-9a-f]+\] )?"
    rb"(?:SYS_(?P<sys>\w+)\(|(?P<at>\w+)@SYS\(|(?:[\w.+-]+->)?(?P<lib>[A-Za-z_]\w*)(?:@[\w.]+)?\("
    rb"|<\.\.\. (?P<resumed>[\w@]+) resumed>|(?P<mark>---|\+\+\+) )"
)
_LINE: Final = re.compile(_PREFIX + PATTERN + _RECORD)
_INNER: Final = re.compile(rb"\[pid +\d{1,7}\] |SYS_\w{1,40}\(|\b\w{1,40}@SYS\(")
_EXITED: Final = re.compile(rb"exited \(status (\d{1,3})\)")
_KILLED: Final = re.compile(rb"killed by (\w+)")
_LIBRARY: Final = frozenset({b"fork", b"vfork", b"clone", b"_Fork"})
_ARCH: Final = Arch.X86_64


class LtraceReader(LogReader):
    """The state between two lines."""

    def __init__(self) -> None:
        super().__init__(DIALECT, _ARCH)
        self._numbered = False
        self._bracketed = False

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
            if match["lib"] in _LIBRARY:
                self._library(task, line[match.start("lib") :], match["lib"], t)
        elif (called := match["sys"] or match["at"]) is not None:
            name = _call_name(called)
            if name in CALLS:
                self.calls.call(task, LoggedCall(name, line[match.end() :], t), t)
        elif match["resumed"] is not None:
            self._resumed(task, match["resumed"], line[match.end() :], t)
        elif match["mark"] == b"+++":
            self._ended(task, line[match.end() :], t)
        elif line.startswith(b"Called exec()", match.end()):
            self.calls.executes(task, t)

    def _is_record(self, match: re.Match[bytes]) -> bool:
        """A line without the prefix that the others have is the program's own."""
        if match["num"] is not None:
            self._numbered = True
        elif match["pid"] is not None:
            self._bracketed = True
        else:
            return not (self._numbered or self._bracketed)
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
        return self.order.task(tid, t)

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

    def _library(self, task: LoggedTask, line: bytes, name: bytes, t: int | None) -> None:
        """A library call that makes a task: what there is of it where the log has no system calls (no -S)."""
        made = self.order.begin(task, t, {"arch": _ARCH, "nr": None}, None, library=True)
        if PENDING.search(line):
            return
        args_end = arguments(line, line.index(b"(") + 1)[1]
        answer = None if args_end is None else result(line, args_end)
        if answer is None or answer.value is None:
            self.order.notices.add(f"lines with {name.decode()} that are cut off", self.order.line)
            self.order.abandon(task)
        elif 0 < answer.value < PID_LIMIT:
            self.order.created(made, t, answer.value)
        else:
            self.order.drop(made)

    def _resumed(self, task: LoggedTask, name: bytes, rest: bytes, t: int | None) -> None:
        if name.startswith(b"SYS_") or name.endswith(b"@SYS"):
            plain = _call_name(name.removeprefix(b"SYS_").removesuffix(b"@SYS"))
            if plain in CALLS:
                self.calls.resumed(task, plain, rest, t)
        elif name in _LIBRARY and task.creating is not None and task.open is None:
            answer = result(rest, rest.find(b")") + 1)
            if answer is not None and answer.value is not None and 0 < answer.value < PID_LIMIT:
                self.order.created(task.creating, t, answer.value)
            else:
                self.order.drop(task.creating)

    def _ended(self, task: LoggedTask, line: bytes, t: int | None) -> None:
        if exited := _EXITED.match(line):
            self.order.exit(task, t, (int(exited[1]) & 0xFF) << 8)
        elif killed := _KILLED.match(line):
            self.order.exit(task, t, words.signal_word(killed[1]))
        elif line.startswith(b"exited"):
            self.order.exit(task, t, None)


def _call_name(name: bytes) -> bytes:
    """A call that this ltrace has no name for is printed by its number."""
    if name.isdigit() and len(name) <= 4:
        return (syscalls.name(_ARCH, int(name)) or "").encode()
    return name


# How ltrace prints calls

_WORDS: Final = {b"fork": 0, b"vfork": 0, b"clone": 5, b"clone3": 2, b"unshare": 1, b"setns": 2, b"close_range": 3}
"""How many of the six words that ltrace may print are arguments of the call."""
_INTS: Final = frozenset({b"setns", b"close_range"})
_ARGV: Final = Unavailable(errno=0, why="ltrace prints only the address of the arguments")


def _creation(arch: Arch, name: bytes, args: list[bytes]) -> tuple[dict[str, Any], int | None]:
    count = _WORDS[name]
    given: list[int | None] = [words.word(arg) for arg in args[:count]]
    given += [None] * (count - len(given))
    call: dict[str, Any] = {"arch": arch, "nr": words.call_number(arch, name.decode()), "args": tuple(given)}
    if name == b"clone3":
        call["struct"] = Unavailable(errno=0, why="ltrace prints only the address of the struct")
        return call, None
    if name == b"clone":
        return call, given[0]
    return call, CLONE_VM | CLONE_VFORK if name == b"vfork" else 0


def _change(arch: Arch, name: bytes, args: list[bytes]) -> dict[str, Any]:
    given = tuple(words.word(arg, 32 if name in _INTS else 64) for arg in args[: _WORDS.get(name, 0)])
    return {"arch": arch, "nr": words.call_number(arch, name.decode()), "args": given}


def _image(name: bytes, args: list[bytes]) -> LoggedImage:
    place = 0 if name == b"execve" else 1
    path = string(args[place]) if len(args) > place else None
    if path is None:
        return LoggedImage(Unavailable(errno=0, why="ltrace printed no string for it"), _ARGV, None)
    return LoggedImage(text(path[0]), _ARGV, None if path[1] else ("path", "ltrace printed only its beginning"))


def _returned(line: bytes, end: int) -> Returned | None:
    found = result(line, end)
    if found is None or found.value is None or not -MAX_ERRNO <= found.value < 0:
        return None if found is None else Returned(found.value)
    return Returned(found.value, failed=True, errno=-found.value, restarted=-found.value in RESTARTS)


DIALECT: Final = Dialect(
    creation=_creation,
    change=_change,
    image=_image,
    returned=_returned,
    interleaved=True,
    announces_execs=True,
)


def read(source: LineSource, head: list[bytes]) -> TraceFile:
    """Read a log from its start; ``head`` are its first lines, which ``source`` gives again."""
    stamps = Stamps()
    for line in head:
        match = _LINE.match(bare(line))
        if match is not None:
            stamps.take(match)
            break
    header = Header(source=Source(tool="ltrace"), clock=Clock(start=None, wall=stamps.wall), blind=list(_BLIND))
    return trace_file(header, LtraceReader(), source, head)
