"""Logs of ``strace -f``: from its lines to event records, line by line. See docs/other-tools.md.

Written against strace 6.1's own output and the forms that older and newer versions print (strace's strace.c
and clone.c): ``[pid N]`` and ``N`` prefixes, -t, -tt, -ttt, -r, -T, -i, -n, -k, -y, -Y, -X.
"""

from __future__ import annotations

import re
from signal import SIGCHLD
from typing import Final

from forklore.abi.arch import Arch
from forklore.abi.signals import signal_number
from forklore.abi.units import PID_LIMIT
from forklore.events.lines import LineSource
from forklore.events.records import UNKNOWN_TID, Blind, GroupStop, Header, Resume, Source, Text
from forklore.events.trace_file import TraceFile
from forklore.sources.logs.assembly.assembler import PENDING
from forklore.sources.logs.assembly.dialect import CALLS, ENDING, EXECUTING, LoggedCall
from forklore.sources.logs.assembly.tasks import LoggedTask
from forklore.sources.logs.pasted import bare
from forklore.sources.logs.printed import words
from forklore.sources.logs.printed.calls import arguments, members
from forklore.sources.logs.printed.time_stamps import PATTERN, Stamps
from forklore.sources.logs.reading import CallReader, trace_file
from forklore.sources.logs.strace.calls import DIALECT, child_ended
from forklore.sources.logs.strace.dull import DullLines

_BLIND: Final = (
    Blind("arch", "strace does not name it; x86_64 is assumed until the log tells of another mode"),
    Blind("kernel, host", "a log does not have them"),
    Blind("arguments", "words that strace does not print are null; strings may be cut (strace -s)"),
    Blind(
        "clone3 struct",
        "rebuilt from the printed fields: what was not printed is zero, and a set_tid that was printed as an "
        "array has all bits set as its pointer",
    ),
    Blind("clone's pointers", "strace prints what parent_tid points to, not the pointer"),
    Blind("sharing", "nothing was observed, only asked for"),
    Blind("parents", "a log does not tell who waits for a task after its parent ended"),
    Blind("thread groups", "a log does not tell which of the tasks that ran before it are threads"),
)

LINE: Final = re.compile(
    rb"(?:\[pid +(?P<pid>\d{1,7})(?:<[^>]*>)?\] |(?P<num>\d{1,7})(?:<[^>]*>)? ++)?"
    + PATTERN
    + rb"(?:\[ *[0-9a-f?]+\] )*"
    rb"(?:(?P<call>[a-z_]\w*)\(|<\.\.\. (?P<resumed>\w+) resumed>|(?P<mark>---|\+\+\+) )"
)
"""A record of strace: whose, when, and which call or mark it begins with."""
_INNER: Final = re.compile(rb"\[pid +\d+(?:<[^>]*>)?\] ")
_NOTICE: Final = re.compile(
    rb"(?:strace: )?Process (\d{1,7}) (attached|detached|suspended|resumed)"
    rb"(?: with \d+ threads| \(waiting for parent\)| \(parent (\d{1,7}) ready\))?\s*+\Z"
)
_AFTER_TEXT: Final = re.compile(
    rb"(?:(?:\d\d:){2}\d\d(?:\.\d+)? |\d{10}\.\d{1,9} )?"
    rb"(?:(?:clone3?|v?fork)\((?=\)? |\w+=|\{|Process |strace: )|execve(?:at)?\((?=[\"0-9]|AT_)"
    rb"|_?exit(?:_group)?\(\d+\) += \?|<\.\.\. \w+ resumed>|\+\+\+ (?:exited with|killed by|superseded by) "
    rb"|--- (?:SIG|stopped by ))"
)
"""A record that begins in the middle of a line, behind what the program wrote."""
_MODE: Final = re.compile(rb"\[ Process PID=(\d{1,7}) runs in (64 bit|32 bit|x32) mode\. \]")
_MODES: Final = {b"64 bit": Arch.X86_64, b"32 bit": Arch.I386, b"x32": Arch.X32}
_EXITED: Final = re.compile(rb"exited with (\d{1,3}) \+\+\+")
_KILLED: Final = re.compile(rb"killed by (\w+)( \(core dumped\))? \+\+\+")
_SUPERSEDED: Final = re.compile(rb"superseded by execve in pid (\d{1,7})")
_STOPPED: Final = re.compile(rb"stopped by (\w+)")
_SIGNAL: Final = re.compile(rb"(\w+) (\{.*)? ?---", re.DOTALL)
_CHILD_ENDED: Final = re.compile(
    rb"SIGCHLD (\{si_signo=SIGCHLD, si_code=(CLD_EXITED|CLD_KILLED|CLD_DUMPED), si_pid=([1-9]\d{0,6})(?:<[^<>]*+>)?"
    rb", si_uid=\d++, si_status=\w++, si_utime=\d++[^{},\"]*+, si_stime=\d++[^{},\"]*+\}) ---\s*"
)
"""What most lines of a signal are."""
_SIGCONT: Final = signal_number("SIGCONT")
_NOT_SUCCESSFUL: Final = re.compile(rb"\) += (?:-1 E|\?)")
"""What ``strace -z`` leaves out."""


class StraceReader(CallReader):
    """The state between two lines."""

    def __init__(self) -> None:
        super().__init__(DIALECT, Arch.X86_64)
        self.order.matching.cut_calls = False
        self.dull = self._dull = DullLines(self.order, self.calls, self.stamps)
        self._numbered = False
        self._follows = False
        self._alone: LoggedTask | None = None

    def feed(self, line: bytes, number: int) -> None:
        """Take the next line."""
        self.order.line = number
        match = LINE.match(line)
        if match is None:
            self._no_record(line, number)
            return
        self.calls.next_line()
        t = self.stamps.take(match)
        self._follows = self._follows or match["num"] is not None or match["pid"] is not None
        task = self._whose(match)
        if task is None:
            prefix = match["pid"] or match["num"]
            task = None if prefix is None else self._named_task(int(prefix), match, t)
            if task is None:
                self.not_understood(line)
                return
        if not self.order.matching.cut_calls and _NOT_SUCCESSFUL.search(line):
            self.order.matching.cut_calls = True
        if task.stopped and match["mark"] is None:
            task.stopped = False
            self.order.emit(Resume(t=t, task=task.id))
        if (name := match["call"]) is not None:
            if name in CALLS:
                self._call(task, LoggedCall(name, line[match.end() :], t), t)
            elif not (self._numbered or match["pid"] or words.is_call(name)):
                self._behind_text(line, number)
        elif (name := match["resumed"]) is not None:
            if name not in EXECUTING and name not in ENDING:
                self.order.matching.interleaved = True
            if name in CALLS:
                self.calls.resumed(task, name, line[match.end() :], t)
        elif match["mark"] == b"+++":
            self._ended(task, line[match.end() :], t)
        else:
            self._signal(task, line[match.end() :], t)
        task.seen = self.order.matching.seq

    def finish(self) -> None:
        """The log has ended: one without the lines of a child is of strace without -f."""
        super().finish()
        if not self._follows and (self.order.several or self.order.matching.seeks):
            self.order.note("what its children did", "strace was run without -f, which follows them", self.stamps.last)

    # Whose line it is

    def _whose(self, match: re.Match[bytes]) -> LoggedTask | None:
        prefix = match["num"]
        tasks = self.order.tasks
        if prefix is not None:
            self._numbered = self._dull.numbered = True
            return tasks.get(int(prefix))
        prefix = match["pid"]
        if prefix is not None:
            if self._dull.numbered is None:
                self._dull.numbered = False
            return tasks.get(int(prefix))
        if self._numbered:
            return None
        return self._unprefixed()

    def _unprefixed(self) -> LoggedTask:
        """strace leaves the prefix away while it has one process."""
        tasks = self.order.tasks
        if self._alone is not None and tasks.get(self._alone.tid) is self._alone:
            return self._alone
        only = self.order.sole() or self.order.task(UNKNOWN_TID, self.stamps.last)
        self._alone = only
        return only

    def _named_task(self, tid: int, match: re.Match[bytes], t: int | None) -> LoggedTask | None:
        if not 0 < tid < PID_LIMIT:
            return None
        nameless = self.order.tasks.get(UNKNOWN_TID)
        if nameless is not None:
            waits = nameless.open
            if waits is None or (match["resumed"] is not None and match["resumed"] == waits.name):
                self.order.name_root(nameless, tid)
                return nameless
        return self.order.task(tid, t)

    # Lines that are no records

    def _no_record(self, line: bytes, number: int) -> None:
        if (joined := self.calls.joined(line)) is not None:
            task, call = joined
            self._call(task, call, call.began, joined=True)
        elif self._behind_text(line, number):
            pass
        elif notice := _NOTICE.search(line):
            self._notice(notice)
        elif mode := _MODE.search(line):
            tid = int(mode[1])
            runs = self.order.tasks.get(tid) or self.order.tasks.get(UNKNOWN_TID)
            if runs is not None:
                runs.arch = _MODES[mode[2]]
        else:
            self.not_understood(line)

    def _behind_text(self, line: bytes, number: int) -> bool:
        """Read a record that begins behind what the program wrote into the line."""
        record = _INNER.search(line, 1)
        if record is None or not LINE.match(line, record.start()):
            record = None if self._numbered else _AFTER_TEXT.search(line, 1)
            if record is None or b'"' in line[: record.start()]:
                return False
        self.feed(line[record.start() :], number)
        return True

    def _call(self, task: LoggedTask, call: LoggedCall, t: int | None, *, joined: bool = False) -> None:
        notice = None
        if b"Process " in call.text and not PENDING.search(call.text):
            notice = _NOTICE.search(call.text)
        if notice is not None:
            call.text = call.text[: notice.start()]
        self.calls.call(task, call, t, joined=joined, cut=notice is not None)
        if notice is not None:
            self._notice(notice)

    def _notice(self, match: re.Match[bytes]) -> None:
        tid = int(match[1])
        if match[2] in (b"suspended", b"resumed"):  # strace 4.5 and before
            nameless = self.order.tasks.get(UNKNOWN_TID)
            pid = tid if match[3] is None else int(match[3])
            if nameless is not None and 0 < pid < PID_LIMIT and pid not in self.order.tasks:
                self.order.name_root(nameless, pid)
        elif match[2] == b"detached":
            task = self.order.tasks.get(tid)
            if task is not None:
                self.order.gone(task, self.stamps.last, "released")
        elif 0 < tid < PID_LIMIT:
            self.order.task(tid, self.stamps.last)

    # Signals and ends

    def _signal(self, task: LoggedTask, line: bytes, t: int | None) -> None:
        stopped = _STOPPED.match(line)
        if stopped is not None:
            number = words.signal_word(stopped[1])
            if number is not None:
                task.stopped = True
                self.order.emit(GroupStop(t=t, task=task.id, signal=number))
            return
        if (child := _CHILD_ENDED.fullmatch(line)) is not None:
            task.signal = (SIGCHLD, words.SI_CODES[child[2]], int(child[3]), None)
            if self.order.matching.seeks and (ended := child_ended(members(child[1]))) is not None:
                self.order.matching.waited(task, *ended, returned=True)
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
        if code in words.CLD_ENDS and self.order.matching.seeks and (ended := child_ended(info)) is not None:
            self.order.matching.waited(task, *ended, returned=True)
        if number == _SIGCONT and task.stopped:
            task.stopped = False
            self.order.emit(Resume(t=t, task=task.id))

    def _ended(self, task: LoggedTask, line: bytes, t: int | None) -> None:
        self.order.matching.ends_told = True
        if exited := _EXITED.match(line):
            self.order.exit(task, t, (int(exited[1]) & 0xFF) << 8)
        elif killed := _KILLED.match(line):
            number = words.signal_word(killed[1])
            status = None if number is None else (number & 0x7F) | (0x80 if killed[2] else 0)
            self.order.exit(task, t, status)
        elif superseded := _SUPERSEDED.match(line):
            heir = self.order.tasks.get(int(superseded[1]))
            if heir is None or heir is task:
                self.order.gone(task, t, "superseded")
                return
            self.order.takes_over(heir, task.tid, t)
        else:
            self.order.notices.add("ends of tasks that are not understood", self.order.line)


def read(source: LineSource, head: list[bytes]) -> TraceFile:
    """Read a log from its start; ``head`` are its first lines, which ``source`` gives again."""
    return trace_file(_header(head), StraceReader(), source, head)


def _header(head: list[bytes]) -> Header:
    stamps = Stamps()
    command: list[Text] = []
    for line in head:
        line = bare(line)
        match = LINE.match(line)
        if match is None:
            continue
        stamps.take(match)
        if match["call"] in EXECUTING:
            argv = DIALECT.image(match["call"], arguments(line, match.end())[0]).argv
            command = argv if isinstance(argv, list) else []
        break
    return Header(
        source=Source(tool="strace"),
        clock=stamps.header(),
        command=command,
        blind=list(_BLIND),
    )
