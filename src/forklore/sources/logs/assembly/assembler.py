"""The calls of a log put together: begun, cut off, resumed under the same or another tid, and what came of them."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any, Final

from forklore.abi.arch import Arch
from forklore.abi.flags import CLOSE_RANGE_UNSHARE
from forklore.abi.units import PID_LIMIT
from forklore.decode.calls import decode_call
from forklore.decode.unsharing import linked, set_for_children
from forklore.events.records import Exec, ExecFail, Fail, Other
from forklore.sources.logs.assembly.dialect import (
    CREATING,
    ENDING,
    EXECUTING,
    NAMING,
    WAITING,
    Dialect,
    LoggedCall,
    Returned,
)
from forklore.sources.logs.assembly.ordering import Ordering
from forklore.sources.logs.assembly.tasks import LoggedTask
from forklore.sources.logs.printed import words
from forklore.sources.logs.printed.calls import arguments

PENDING: Final = re.compile(rb"<(?:unfinished|no return|pid changed to (\d{1,7})) \.\.\.>\s*+\Z")
"""Ends a line whose call has not returned yet."""

_KEPT: Final = 1000
_KEPT_LENGTH: Final = 1000
_JOINED_LIMIT: Final = 1 << 16
_JOINS_LIMIT: Final = 64


class Assembler:
    """Follows the calls that each task is in the middle of, and tells ``order`` what they did when they have returned.

    A reader finds out whose a line is and when it was written, and passes on what it says: :meth:`call` for the
    beginning of a call or the whole of it, :meth:`resumed` for its end, :meth:`joined` for a line that goes on with the
    one before, :meth:`executes` for the notice of an exec. Before any of them, for each line: :meth:`next_line`.
    """

    def __init__(self, dialect: Dialect, order: Ordering) -> None:
        self._dialect = dialect
        self._order = order
        self._notices = order.notices
        self._cut: tuple[LoggedTask, LoggedCall] | None = None
        """The call that the line before began and did not end."""
        self._joins = 0
        self._decoded: dict[tuple[Arch, bytes, tuple[bytes, ...]], tuple[dict[str, Any], int | None]] = {}
        """Creations by their arguments: most are made again and again, and each is decoded where it begins and ends."""

    # From lines to calls

    def next_line(self) -> None:
        """A line begins that says something by itself: the call that was cut off before it has no more text."""
        if self._cut is not None:
            if self._cut[1].name in CREATING:
                self._notices.add("creations cut off in the middle of the line", self._order.line - 1)
            self._cut = None
        self._joins = 0

    @property
    def in_cut(self) -> bool:
        """Whether the line before began a call and did not end it."""
        return self._cut is not None

    def call(
        self, task: LoggedTask, call: LoggedCall, t: int | None, *, joined: bool = False, cut: bool = False
    ) -> None:
        """A task makes a call. ``joined``: more text of one that was cut off. ``cut``: something else interrupts it."""
        if (call.name in NAMING and task.tid and task.slot is None) or (
            call.name in WAITING and not (task.space or self._order.matching.seeks)
        ):
            return
        pending = PENDING.search(call.text)
        if pending is not None:
            call.text = call.text[: pending.start()].rstrip()
            call.heir = int(pending[1]) if pending[1] else None
            self._begins(task, call, joined=joined)
            return
        args, end = arguments(call.text, 0)
        if cut or (end is None and self._dialect.interleaved):
            self._begins(task, call, joined=joined)
            self._cut = task, call
            return
        self._completes(task, call, args, end, t)

    def joined(self, line: bytes) -> tuple[LoggedTask, LoggedCall] | None:
        """What the line before began, with this one added; None if that had its end, or has become too long."""
        if self._cut is None:
            return None
        task, call = self._cut
        self._cut = None
        self._joins += 1
        if len(call.text) > _JOINED_LIMIT or self._joins > _JOINS_LIMIT:
            return None
        call.text = call.text.rstrip() + line
        return task, call

    def resumed(self, task: LoggedTask, name: bytes, rest: bytes, t: int | None) -> None:
        """The log goes on with a call of that name, which it left unfinished."""
        if name in EXECUTING and (task.open is None or task.open.name != name) and not self._dialect.announces_execs:
            heir = self._heir(task, {name}, t)
            if heir is None:
                self._notices.add("ends of an execve that no task of the log began", self._order.line)
                return
            task = heir
        call = task.open
        if call is None or call.name != name:
            if name in CREATING:
                self._notices.add("creations of which the log has only the end", self._order.line)
            return
        if PENDING.search(rest):
            return
        call.text += rest
        self._completes(task, call, *arguments(call.text, 0), t)

    def _begins(self, task: LoggedTask, call: LoggedCall, *, joined: bool) -> None:
        task.open, call.cut = call, True
        if call.name in CREATING:
            fields, flags = self._creation(task, call.name, arguments(call.text, 0)[0])
            self._order.begin(task, call.began, fields, flags, again=joined)
        elif call.name in EXECUTING:
            self._order.executing[task] = None
        elif call.name in ENDING:
            _leaves(task, call.name, arguments(call.text, 0)[0], call.began)

    def _creation(self, task: LoggedTask, name: bytes, args: list[bytes]) -> tuple[dict[str, Any], int | None]:
        key = task.arch, name, tuple(args)
        if (made := self._decoded.get(key)) is None:
            made = self._dialect.creation(task.arch, name, args)
            if sum(map(len, args)) <= _KEPT_LENGTH:
                if len(self._decoded) >= _KEPT:
                    self._decoded.clear()
                self._decoded[key] = made
        if task.told_flags is not None and made[1] is None:
            return {**made[0], "flags": task.told_flags}, task.told_flags
        return made

    # From calls to events

    def _completes(self, task: LoggedTask, call: LoggedCall, args: list[bytes], end: int | None, t: int | None) -> None:
        task.open = None
        self._order.executing.pop(task, None)
        answer = None if end is None else self._dialect.returned(call.text, end)
        if answer is not None and answer.tampered is not None:
            self._notices.add(answer.tampered, self._order.line)
        if call.name in ENDING:
            _leaves(task, call.name, [] if answer is not None and answer.injected else args, t)
        elif answer is None and not self._dialect.interleaved:
            if call.name in CREATING or call.name in EXECUTING:
                self._cut_off(call)
            if task.creating is not None:
                self._order.matching.abandon(task)
        elif call.name in CREATING:
            self._created(task, call, args, answer, t)
        elif call.name in EXECUTING:
            self._exec(task, call, args, answer, t)
        elif call.name in NAMING:
            # getpid says the process, which a task that is not known yet need not be.
            if answer is not None and not (answer.injected or (task.slot is not None and call.name == b"getpid")):
                self._says(task, answer.value)
        elif call.name in WAITING:
            told = (
                None
                if answer is None or self._dialect.waited is None
                else self._dialect.waited(call.name, args, answer)
            )
            if told is not None:
                self._order.matching.waited(task, *told, returned=call.cut)
        else:
            self._changed(task, call, args, answer, t)

    def _says(self, task: LoggedTask, tid: int | None) -> None:
        if tid is not None and 0 < tid < PID_LIMIT:
            self._order.calls_itself(task, tid)

    def _cut_off(self, call: LoggedCall) -> None:
        self._notices.add(f"lines with {call.name.decode()} that are cut off", self._order.line)

    def _created(
        self, task: LoggedTask, call: LoggedCall, args: list[bytes], answer: Returned | None, t: int | None
    ) -> None:
        fields, flags = self._creation(task, call.name, args)
        task.told_flags = None
        made = self._order.begin(task, call.began, fields, flags, again=True)
        if answer is None:
            self._cut_off(call)
            self._order.matching.abandon(task)
        elif answer.failed:
            self._order.matching.drop(made)
            if answer.errno is not None and not answer.restarted:
                when = _returned_at(t, call, answer)
                made.call.pop("flags", None)  # the kernel's own, which are of a task that was made
                self._order.emit(Fail(t=when, task=task.id, errno=answer.errno, injected=answer.injected, **made.call))
            elif not answer.restarted:
                self._notices.add("creations that failed with an error of unknown name", self._order.line)
        elif answer.value is None:
            self._order.matching.abandon(task)
        elif answer.injected:
            self._order.matching.drop(made)
            self._not_run(task, call, answer, t)
        elif 0 < answer.value < PID_LIMIT:
            tid = answer.outer or answer.value
            inner = None if answer.outer is None else answer.value
            self._order.created(made, _returned_at(t, call, answer), tid, inner)
        else:
            self._order.matching.drop(made)
            if answer.value:
                self._notices.add("creations that returned no possible pid", self._order.line)

    def _not_run(self, task: LoggedTask, call: LoggedCall, answer: Returned, t: int | None) -> None:
        why = f"strace did not let it run, and had it return {answer.value} (INJECTED)"
        self._order.note(f"what {call.name.decode()} by {task.name} would have done", why, t, task)

    def _changed(
        self, task: LoggedTask, call: LoggedCall, args: list[bytes], answer: Returned | None, t: int | None
    ) -> None:
        fields = self._dialect.change(task.arch, call.name, args)
        if call.name == b"close_range" and not _unshares(fields.get("args", ())):
            return
        result = None if answer is None else answer.value
        if answer is not None and answer.failed and result is not None:
            result = None if answer.errno is None else -answer.errno
        injected = answer is not None and answer.injected
        self._order.emit(Other(t=t, task=task.id, result=result, injected=injected, **fields))
        if injected:
            return
        if call.name == b"setsid" and task.slot is not None:
            self._says(task, result)
        if result == 0:
            entered = linked(fields.get("target"))
            made = decode_call(fields["arch"], fields["nr"], fields.get("args", ()))
            if "pid_ns" in set_for_children(made, None if entered is None else entered[0]):
                task.children_space = self._order.new_space()
                task.unshared = call.name == b"unshare"

    def _exec(
        self, task: LoggedTask, call: LoggedCall, args: list[bytes], answer: Returned | None, t: int | None
    ) -> None:
        if answer is None or answer.value is None:
            if self._dialect.announces_execs:
                task.open = call
                self._order.executing[task] = None
        elif answer.injected and not answer.failed:
            self._not_run(task, call, answer, t)
        elif not answer.failed:
            self._executed(task, call, args, _returned_at(t, call, answer))
        elif answer.errno is not None:
            image = self._dialect.image(call.name, args)
            when = _returned_at(t, call, answer)
            self._order.emit(
                ExecFail(
                    t=when, task=task.id, path=image.path, at=image.at, argv=image.argv, errno=answer.errno,
                    injected=answer.injected,
                )
            )

    def executes(self, task: LoggedTask, t: int | None) -> None:
        """The log tells that a task runs a new image: by a call of its own, or of a thread that took its tid."""
        heir: LoggedTask | None = task
        if task.open is None or task.open.name not in EXECUTING:
            # Of a task that clone3 made the log does not tell whose thread it is.
            heir = self._heir(task, EXECUTING, t, anyone=True)
        if heir is None or heir.open is None:
            self._notices.add("programs executed without a call of it in the log", self._order.line)
            return
        call, heir.open = heir.open, None
        self._executed(heir, call, arguments(call.text, 0)[0], t)

    def _heir(self, leader: LoggedTask, names: Set[bytes], t: int | None, *, anyone: bool = False) -> LoggedTask | None:
        # A thread whose execve, begun under its own tid, comes back under that of its group's leader.
        could = [x for x in self._order.others_executing(leader) if x.open is not None and x.open.name in names]
        told = [x for x in could if x.open is not None and x.open.heir == leader.tid]
        found = told or [x for x in could if x.group is leader.group] or (could if anyone else [])
        if len(found) != 1:
            return None
        self._order.takes_over(found[0], leader.tid, t)
        return found[0]

    def _executed(self, task: LoggedTask, call: LoggedCall, args: list[bytes], t: int | None) -> None:
        image = self._dialect.image(call.name, args)
        former, task.former_tid = task.former_tid, None
        event = Exec(
            t=t, task=task.id, path=image.path, at=image.at, argv=image.argv, former_tid=former, began=call.began
        )
        self._order.executed(task, event)
        if image.lacks is not None:
            self._order.note(*image.lacks, t, task)


def _unshares(words: tuple[int | None, ...]) -> bool:
    """Whether a close_range leaves the table that others share: without that it only closes."""
    return len(words) < 3 or words[2] is None or bool(words[2] & CLOSE_RANGE_UNSHARE)


def _leaves(task: LoggedTask, name: bytes, args: list[bytes], t: int | None) -> None:
    status = words.word(args[0], 8) if args else None
    if status is None:
        return
    if name != b"exit_group":
        task.leaving = (status << 8, t)
    elif task.group.group_leaving is None:
        task.group.group_leaving = (status << 8, t)


def _returned_at(t: int | None, call: LoggedCall, answer: Returned) -> int | None:
    """A line that was written whole has the stamp of its beginning."""
    if t is not None and t == call.began and answer.took is not None:
        return t + answer.took
    return t
