"""What a reader of strace's lines remembers from one to the next. See :mod:`forklore.sources.logs.strace`."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from forklore.abi.arch import Arch
from forklore.abi.flags import CLONE_NEWPID
from forklore.abi.signals import signal_number
from forklore.events.records import (
    Exec,
    ExecFail,
    Fail,
    GroupStop,
    Other,
    Resume,
)
from forklore.sources.logs import strace_calls as calls
from forklore.sources.logs import words
from forklore.sources.logs.assembly import TID_LIMIT, Assembler, Notices, Task
from forklore.sources.logs.text import Result, arguments, members, result
from forklore.sources.logs.time_stamps import CREATION_NAMED, PATTERN, Stamps

LINE: Final = re.compile(
    rb"(?:\[pid +(?P<pid>\d{1,7})(?:<[^>]*>)?\] |(?P<num>\d{1,7})(?:<[^>]*>)? ++)?"
    + PATTERN
    + rb"(?:\[ *[0-9a-f?]+\] )*"
    rb"(?:(?P<call>[a-z_]\w*)\(|<\.\.\. (?P<resumed>\w+) resumed>|(?P<mark>---|\+\+\+) )"
)
_INNER: Final = re.compile(rb"\[pid +\d+(?:<[^>]*>)?\] ")
_UNFINISHED: Final = re.compile(rb"<(?:unfinished|pid changed to (\d{1,7})) \.\.\.>\s*+\Z")
_ATTACHED: Final = re.compile(rb"(?:strace: )?Process (\d{1,7}) (attached|detached)(?: with \d+ threads)?\s*+\Z")
_MODE: Final = re.compile(rb"\[ Process PID=(\d{1,7}) runs in (64 bit|32 bit|x32) mode\. \]")
_MODES: Final = {b"64 bit": Arch.X86_64, b"32 bit": Arch.I386, b"x32": Arch.X32}
_EXITED: Final = re.compile(rb"exited with (\d{1,3}) \+\+\+")
_KILLED: Final = re.compile(rb"killed by (\w+)( \(core dumped\))? \+\+\+")
_SUPERSEDED: Final = re.compile(rb"superseded by execve in pid (\d{1,7})")
_STOPPED: Final = re.compile(rb"stopped by (\w+)")
_SIGNAL: Final = re.compile(rb"(\w+) (\{.*)? ?---", re.DOTALL)
_ENDING: Final = frozenset({b"exit", b"exit_group"})
_NAMING: Final = frozenset({b"getpid", b"gettid", b"set_tid_address"})
_CALLS: Final = calls.CREATING | calls.CHANGING | calls.EXECUTING | _ENDING | _NAMING
_UNKNOWN_TID: Final = 0
_JOINED_LIMIT: Final = 1 << 16
_JOINS_LIMIT: Final = 16
_SIGCONT: Final = signal_number("SIGCONT")


class _Open(NamedTuple):
    name: bytes
    head: bytes
    began: int | None
    heir: int | None


class StraceReader:
    """The state between two lines. :meth:`feed` takes the lines in order, ``assembler`` has the events."""

    def __init__(self) -> None:
        self.notices = Notices()
        self.assembler = Assembler(self.notices, Arch.X86_64)
        self.stamps = Stamps()
        self._numbered = False
        self._alone: Task | None = None
        self._joins = 0
        self._cut: tuple[Task, bytes, bytes, int | None] | None = None

    def feed(self, line: bytes, number: int) -> None:
        """Take the next line."""
        self.assembler.line = number
        match = LINE.match(line)
        if match is None:
            self._no_record(line, number)
            return
        if self._cut is not None:
            self._lose_cut()
        self._joins = 0
        t = self.stamps.take(match)
        task = self._whose(match)
        if task is None:
            if match["num"] is None and match["pid"] is None:
                self._not_understood(line)
                return
            task = self._named_task(int(match["pid"] or match["num"]), match, t)
            if task is None:
                self._not_understood(line)
                return
        name = match["call"]
        if task.stopped and match["mark"] is None:
            task.stopped = False
            self.assembler.emit(Resume(t=t, task=task.id))
        if name is not None:
            if name in _CALLS:
                self._call(task, name, line[match.start("call") :], t)
        elif match["resumed"] is not None:
            self._resumed(task, match["resumed"], line[match.end() :], t)
        elif match["mark"] == b"+++":
            self._ended(task, line[match.end() :], t)
        else:
            self._signal(task, line[match.end() :], t)

    # Whose line it is

    def _whose(self, match: re.Match[bytes]) -> Task | None:
        prefix = match["num"]
        tasks = self.assembler.tasks
        if prefix is not None:
            self._numbered = True
            return tasks.get(int(prefix))
        prefix = match["pid"]
        if prefix is not None:
            return tasks.get(int(prefix))
        if self._numbered:
            return None
        return self._unprefixed()

    def _unprefixed(self) -> Task:
        """strace leaves the prefix away while it has one process."""
        tasks = self.assembler.tasks
        if self._alone is not None and tasks.get(self._alone.tid) is self._alone:
            return self._alone
        only = self.assembler.sole() or self.assembler.task(_UNKNOWN_TID, self.stamps.last)
        self._alone = only
        return only

    def _named_task(self, tid: int, match: re.Match[bytes], t: int | None) -> Task | None:
        if not 0 < tid < TID_LIMIT:
            return None
        nameless = self.assembler.tasks.get(_UNKNOWN_TID)
        if nameless is not None:
            waits = nameless.open
            if waits is None or (match["resumed"] is not None and match["resumed"] == waits.name):
                self.assembler.name_root(nameless, tid)
                return nameless
        return self.assembler.task(tid, t)

    # Lines that are no records

    def _no_record(self, line: bytes, number: int) -> None:
        if self._cut is not None:
            task, name, head, began = self._cut
            self._cut = None
            self._joins += 1
            if len(head) < _JOINED_LIMIT and self._joins <= _JOINS_LIMIT:
                task.open = None
                self._call(task, name, head + line, began, joined=True)
                return
        if attached := _ATTACHED.search(line):
            self._attachment(attached)
        elif mode := _MODE.search(line):
            tid = int(mode[1])
            runs = self.assembler.tasks.get(tid) or self.assembler.tasks.get(_UNKNOWN_TID)
            if runs is not None:
                runs.arch = _MODES[mode[2]]
        elif (inner := _INNER.search(line)) and inner.start() and LINE.match(line, inner.start()):
            self.feed(line[inner.start() :], number)
        else:
            self._not_understood(line)

    def _attachment(self, match: re.Match[bytes]) -> None:
        tid = int(match[1])
        if match[2] == b"detached":
            task = self.assembler.tasks.get(tid)
            if task is not None:
                self.assembler.gone(task, self.stamps.last, "released")
        elif 0 < tid < TID_LIMIT:
            self.assembler.task(tid, self.stamps.last)

    def _not_understood(self, line: bytes) -> None:
        if CREATION_NAMED.search(line):
            self.notices.add("lines that name a creation and are not understood", self.assembler.line)

    def _lose_cut(self) -> None:
        if self._cut is not None and self._cut[1] in calls.CREATING:
            self.notices.add("creations cut off in the middle of the line", self.assembler.line - 1)
        self._cut = None

    # Calls

    def _call(self, task: Task, name: bytes, line: bytes, t: int | None, *, joined: bool = False) -> None:
        if name in _NAMING and task.tid != _UNKNOWN_TID:
            return
        pending = _UNFINISHED.search(line)
        if pending is not None:
            opened = _Open(name, line[: pending.start()].rstrip(), t, int(pending[1]) if pending[1] else None)
            self._begins(task, opened, joined=joined)
            return
        attached = _ATTACHED.search(line)
        if attached is not None:
            head = line[: attached.start()]
            self._begins(task, _Open(name, head, t, None), joined=joined)
            self._attachment(attached)
            self._cut = (task, name, head, t)
            return
        self._completes(task, name, line, t, t)

    def _begins(self, task: Task, call: _Open, *, joined: bool) -> None:
        task.open = call
        if call.name in calls.CREATING:
            args, _ = arguments(call.head, len(call.name) + 1)
            fields, flags = calls.creation(task.arch, call.name, args)
            self.assembler.begin(task, call.began, fields, flags, again=joined)
        elif call.name in calls.EXECUTING:
            self.assembler.executing[task] = None
        elif call.name in _ENDING:
            self._leaves(task, call.name, call.head, call.began)

    def _resumed(self, task: Task, name: bytes, rest: bytes, t: int | None) -> None:
        if name not in _CALLS:
            return
        if name in calls.EXECUTING and (task.open is None or task.open.name != name):
            task = self._heir(task, name, t)
        call: _Open | None = task.open
        if call is None or call.name != name:
            if name in calls.CREATING:
                self.notices.add("creations of which the log has only the end", self.assembler.line)
            return
        if _UNFINISHED.search(rest):
            return
        self._completes(task, name, call.head + rest, t, call.began)

    def _heir(self, leader: Task, name: bytes, t: int | None) -> Task:
        """The thread whose execve comes back under the tid of its group's leader."""
        could = [x for x in self.assembler.others_executing(leader) if x.open is not None and x.open.name == name]
        named = [x for x in could if x.open.heir == leader.tid] or [x for x in could if x.group is leader.group]
        if len(named) != 1:
            self.notices.add("ends of an execve that no task of the log began", self.assembler.line)
            return leader
        self.assembler.takes_over(named[0], leader.tid, t)
        return named[0]

    def _completes(self, task: Task, name: bytes, line: bytes, t: int | None, began: int | None) -> None:
        task.open = None
        self.assembler.executing.pop(task, None)
        args, end = arguments(line, len(name) + 1)
        answer = None if end is None else result(line, end)
        if name in _ENDING:
            self._leaves(task, name, line, t)
        elif answer is None:
            if name in calls.CREATING or name in calls.EXECUTING:
                self.notices.add(f"lines with {name.decode()} that are cut off", self.assembler.line)
            if task.creating is not None:
                self.assembler.abandon(task)
        elif name in calls.CREATING:
            self._creation(task, name, args, answer, t, began)
        elif name in calls.EXECUTING:
            self._exec(task, args if name == b"execve" else args[1:], answer, t, began)
        elif name in _NAMING:
            if answer.value is not None and 0 < answer.value < TID_LIMIT:
                self.assembler.name_root(task, answer.value)
        else:
            self._change(task, name, args, answer, t)

    def _creation(
        self, task: Task, name: bytes, args: list[bytes], answer: Result, t: int | None, began: int | None
    ) -> None:
        fields, flags = calls.creation(task.arch, name, args)
        failed = answer.error is not None
        made = self.assembler.begin(task, began, fields, flags, again=True)
        if failed:
            self.assembler.drop(made)
            number = words.error_number(answer.error or b"")
            if answer.value is None:
                return  # interrupted before it did anything; the kernel makes the call again
            if number is None:
                self.notices.add("creations that failed with an error of unknown name", self.assembler.line)
                return
            self.assembler.emit(Fail(t=_later(t, began, answer), task=task.id, errno=number, **fields))
        elif answer.value is None:
            self.assembler.abandon(task)
        elif 0 < answer.value < TID_LIMIT:
            tid = answer.outer or answer.value
            inner = None if answer.outer is None else answer.value
            self.assembler.created(made, _later(t, began, answer), tid, inner)
        else:
            self.assembler.drop(made)
            if answer.value:
                self.notices.add("creations that returned no possible pid", self.assembler.line)

    def _exec(self, task: Task, args: list[bytes], answer: Result, t: int | None, began: int | None) -> None:
        if answer.value is None:
            return
        path, argv, whole = calls.image(args)
        if answer.error is not None:
            number = words.error_number(answer.error)
            if number is not None:
                event = ExecFail(t=_later(t, began, answer), task=task.id, path=path, argv=argv, errno=number)
                self.assembler.emit(event)
            return
        former = task.former_tid
        task.former_tid = None
        when = _later(t, began, answer)
        self.assembler.executed(task, Exec(t=when, task=task.id, path=path, argv=argv, former_tid=former, began=began))
        if not whole:
            self.assembler.note("arguments", "strace printed only a part of them", when, task)

    def _change(self, task: Task, name: bytes, args: list[bytes], answer: Result, t: int | None) -> None:
        fields = calls.change(task.arch, name, args)
        outcome = answer.value
        if answer.error is not None and outcome is not None:
            number = words.error_number(answer.error)
            outcome = None if number is None else -number
        self.assembler.emit(Other(t=t, task=task.id, result=outcome, **fields))
        if outcome == 0 and _of_pid_namespace(name, fields.get("args", ()), fields.get("target")):
            task.children_inner = True

    def _leaves(self, task: Task, name: bytes, line: bytes, t: int | None) -> None:
        args, _ = arguments(_UNFINISHED.sub(b"", line), len(name) + 1)
        status = words.word(args[0], 8) if args else None
        if status is None:
            return
        if name == b"exit":
            task.leaving = (status << 8, t)
        elif task.group.group_leaving is None:
            task.group.group_leaving = (status << 8, t)

    # Signals and ends

    def _signal(self, task: Task, line: bytes, t: int | None) -> None:
        stopped = _STOPPED.match(line)
        if stopped is not None:
            number = words.signal_word(stopped[1])
            if number is not None:
                task.stopped = True
                self.assembler.emit(GroupStop(t=t, task=task.id, signal=number))
            return
        match = _SIGNAL.match(line)
        number = None if match is None else words.signal_word(match[1])
        if match is None or number is None:
            return
        info = members(match[2].strip()) if match[2] else {}
        raw = words.without_comments(info.get(b"si_code", b""))
        code = words.SI_CODES.get(raw, words.number(raw))
        sender = words.number(info.get(b"si_pid", b"").partition(b"<")[0])
        task.signal = (number, code, sender, words.word(info.get(b"si_addr", b"")))
        if number == _SIGCONT and task.stopped:
            task.stopped = False
            self.assembler.emit(Resume(t=t, task=task.id))

    def _ended(self, task: Task, line: bytes, t: int | None) -> None:
        if exited := _EXITED.match(line):
            self.assembler.exit(task, t, (int(exited[1]) & 0xFF) << 8)
        elif killed := _KILLED.match(line):
            number = words.signal_word(killed[1])
            status = None if number is None else (number & 0x7F) | (0x80 if killed[2] else 0)
            self.assembler.exit(task, t, status)
        elif superseded := _SUPERSEDED.match(line):
            heir = self.assembler.tasks.get(int(superseded[1]))
            if heir is None or heir is task:
                self.assembler.gone(task, t, "superseded")
                return
            self.assembler.takes_over(heir, task.tid, t)
        else:
            self.notices.add("ends of tasks that are not understood", self.assembler.line)


def _later(t: int | None, began: int | None, answer: Result) -> int | None:
    """When the call returned: a line that was printed whole has the stamp of its beginning."""
    if t is not None and t == began and answer.took is not None:
        return t + answer.took
    return t


def _of_pid_namespace(name: bytes, args: tuple[int | None, ...], target: str | None) -> bool:
    if name == b"unshare":
        return bool((args[0] or 0) & CLONE_NEWPID)
    return name == b"setns" and (bool((args[1] or 0) & CLONE_NEWPID) or (target or "").startswith("pid:["))
