"""Descriptors that nobody meant to hand on, and pipes whose end they keep from coming."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from msgspec import Struct

from forklore.abi.text import printable
from forklore.abi.units import Nanoseconds, TaskId
from forklore.events.records import Descriptors, Held, raw_bytes
from forklore.findings.finding import Finding
from forklore.findings.rule import Rule
from forklore.findings.rules.make import MAKES, jobservers
from forklore.findings.subject import SHELLS, Subject, argv_of
from forklore.findings.told import DESCRIPTORS, TIMES
from forklore.model.pipes import PipeHolder, pipes, writes
from forklore.model.tasks import Task
from forklore.report.words import words
from forklore.report.words.descriptors import STANDARD, beyond, given, held_name, key

_OF_A_SHELL: Final = 10
"""``exec 3>file`` of a shell is there to be inherited; what a shell opens for itself it puts at 10 and above."""
_HANDS_ON: Final = frozenset({b"flock"})
"""Programs whose purpose it is: flock(1) has the lock held for as long as the command runs."""
_LASTING: Final = 100_000_000
"""In ns: a bystander that holds an end for longer than all others have is told as what the reader waited for."""
_BRIEF: Final = 60_000_000_000
"""In ns: files that are open for less in a program that its opener outlives are nobody's trouble."""
_FILES: Final = ("file", "directory", "device", "tty")
"""What does no more by being open than take a number; a pipe or a socket has somebody at its other end."""
_NAMED: Final = 3
"""Descriptors that a sentence names."""
_PIPES: Final = ("pipe", "fifo")
_WORD: Final = re.compile(rb"\d+")


class _Survivor(Struct, frozen=True):
    """A descriptor that survived an exec although nothing shows that it was meant to."""

    task: Task
    held: Held
    opener: Task
    """Who had it first, as far as was seen."""
    t: Nanoseconds | None
    by_shell: bool
    """A shell has it, which opens descriptors for what it runs: process substitutions at 63 and below."""
    sure: bool = True
    """False: its creator has nothing at that number any more, and closed it after the fork, or never had it."""


def _survivors(subject: Subject) -> Iterator[_Survivor]:
    handed = given(subject.trace)
    for task in subject.tasks:
        for record in _after_last_exec(task):
            t = None if record.t is None else Nanoseconds(record.t)
            by_shell = record.creator is not None and _is_shell(subject, task, TaskId(record.creator))
            of_make = jobservers(record) if _below_make(subject, task) else set()
            for held in beyond(record):
                if key(held) in handed or (held.device, held.inode) in of_make or record.creator is None:
                    continue
                if _meant(subject, task, record, held):
                    continue
                if held.same == 0 and held.creators_cloexec is False:
                    yield _Survivor(task, held, _opener(subject, task, held), t, by_shell)
                elif held.same == -errno.EBADF and held.kind in _PIPES:
                    yield _Survivor(task, held, _opener(subject, task, held), t, by_shell, sure=False)


def _after_last_exec(task: Task) -> list[Descriptors]:
    """What a task held after its last exec, where that was more than 0 to 2: a helper that is executed first may be
    there to close the rest, as Java's jspawnhelper is."""
    last = task.images[-1].t if task.images else None
    return [record for record in task.descriptors[-1:] if last is None or (record.t or 0) >= last]


def _is_shell(subject: Subject, task: Task, creator: TaskId) -> bool:
    return subject.program_at(subject.trace.tasks[creator], task.created) in SHELLS


def _meant(subject: Subject, task: Task, record: Descriptors, held: Held) -> bool:
    """Whether something shows that the program was to have it."""
    t = None if record.t is None else Nanoseconds(record.t)
    creator = subject.trace.tasks[TaskId(record.creator or task.id)]
    if held.fd < _OF_A_SHELL and _is_shell(subject, task, creator.id):
        return True
    if subject.program_at(creator, task.created) in _HANDS_ON:
        return True
    arguments, numbers = _arguments(argv_of(subject.image_at(task, t)))
    # Its number or name is among the arguments.
    return bool(arguments) and (raw_bytes(held.target) in arguments or str(held.fd).encode() in numbers)


@lru_cache(maxsize=64)
def _arguments(argv: tuple[bytes, ...]) -> tuple[bytes, frozenset[bytes]]:
    # Together, and once for all descriptors: there can be very many of both. No argument has a NUL in it.
    whole = b"\0".join(argv[1:])
    return whole, frozenset(_WORD.findall(whole))


def _below_make(subject: Subject, task: Task) -> bool:
    return any(subject.program_at(above, None) in MAKES for above in subject.ancestors(task))


def _opener(subject: Subject, task: Task, held: Held) -> Task:
    """The last of its creators, going up, that did not get it by an exec of its own."""
    for above in subject.ancestors(task):
        if not above.descriptors:
            if above.images:
                return above  # it began with nothing but 0, 1 and 2
            continue
        if not any(key(each) == key(held) for record in above.descriptors for each in beyond(record)):
            return above
    creator = subject.creator(task)
    return task if creator is None else creator


def _survived(subject: Subject) -> Iterator[Finding]:
    told = {(hanging.holder.task, hanging.name) for hanging in subject.once(_bystanders)}
    groups: dict[tuple[TaskId, TaskId, Nanoseconds | None], list[_Survivor]] = {}
    for each in subject.once(_survivors):
        if (each.task.id, printable(raw_bytes(each.held.target))) in told:
            continue  # the worse is told of it
        if each.sure and not each.by_shell and not _same_program(subject, each) and not _brief(subject, each):
            groups.setdefault((each.task.id, each.opener.id, each.t), []).append(each)
    for found in groups.values():
        yield _leak(subject, found)


def _leak(subject: Subject, found: list[_Survivor]) -> Finding:
    """What one exec left open of one opener's."""
    first = found[0]
    task, opener, creator = first.task, first.opener, subject.creator(first.task)
    named = [f"{held_name(each.held)} at {each.held.fd}" for each in found]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    how = "" if creator is opener or creator is None else f", by way of {subject.who(creator)}"
    lasted = _outlived(subject, task, opener)
    text = (
        f"{', '.join(named[:_NAMED])}{more}, open in {subject.who_was(opener, task.created)} without close-on-exec,"
        f" survived the exec of {subject.who_was(task, first.t)}{how}{', which outlived it' if lasted else ''}"
    )
    kept = lasted and any(_counts(each.held) for each in found)
    return Finding(
        rule="descriptor-survived-exec",
        severity="warning" if kept else "note",
        text=text,
        tasks=(task.id, opener.id),
        t=first.t,
        where=subject.where(task),
        program=subject.program(opener, task.created),
        same=kept,
    )


def _outlived(subject: Subject, task: Task, opener: Task) -> bool:
    """Whether the program had it for longer than its opener lived, so that it kept what it refers to alive."""
    gone = subject.trace.tasks[subject.process(opener)].ended
    return gone is not None and (task.ended is None or task.ended > gone)


def _brief(subject: Subject, each: _Survivor) -> bool:
    """Whether a file was open in it for a moment, while whoever opened it lived on."""
    if each.held.kind not in _FILES or each.t is None or each.task.ended is None:
        return False
    return each.task.ended - each.t < _BRIEF and not _outlived(subject, each.task, each.opener)


def _same_program(subject: Subject, each: _Survivor) -> bool:
    """Whether a program was handed it by another run of itself, as git's commands are."""
    creator = subject.creator(each.task)
    return creator is not None and subject.program_at(creator, each.task.created) == subject.program_at(
        each.task, each.t
    )


def _counts(held: Held) -> bool:
    """Whether it matters who has it: not of what is only read, and of /dev/null."""
    if held.kind in _FILES and not writes(held):
        return False
    return raw_bytes(held.target) != b"/dev/null"


class _Bystander(Struct, frozen=True):
    """Who holds an end of a pipe that it has no use for."""

    holder: PipeHolder
    name: str
    end: str
    waiting: list[PipeHolder]
    """Who holds the other one."""
    longer: Nanoseconds
    """How long it held it after all who use it had ended."""
    sure: bool
    executed: bool
    """It survived an exec; False: a child that executed nothing has it by fork."""


class _End:
    """Who holds one end of a pipe, looked at once: a build's jobserver is held by all that it runs."""

    def __init__(self, subject: Subject, holders: list[PipeHolder], waiting: list[PipeHolder]) -> None:
        self.holders = holders
        self.tasks = {each.task for each in holders}
        self.uses = {each.task for each in holders if each.fd <= STANDARD}
        waits = {each.task for each in waiting}
        # Whoever waits at the other end has closed its own copy of this one.
        self.others_ended = _Latest(subject, self.tasks - waits)

    def has_others(self, task: TaskId) -> bool:
        """Whether somebody else holds it, too."""
        return len(self.tasks) > (task in self.tasks)


class _Latest:
    """When the last of some tasks ended, any one of them left out."""

    def __init__(self, subject: Subject, tasks: set[TaskId]) -> None:
        ends = [(subject.trace.tasks[task].ended, task) for task in tasks]
        self._lives = {task for ended, task in ends if ended is None}
        self._known = sorted(((ended, task) for ended, task in ends if ended is not None), reverse=True)[:2]

    def without(self, task: TaskId) -> Nanoseconds | None:
        """None: one of the others lives, or there are none."""
        if self._lives - {task}:
            return None
        return next((ended for ended, other in self._known if other != task), None)

    def any_lives_without(self, task: TaskId) -> bool:
        """Whether one of the others lives."""
        return bool(self._lives - {task})


def _bystanders(subject: Subject) -> Iterator[_Bystander]:
    astray = {(each.task.id, each.held.fd): each.sure for each in subject.once(_survivors) if each.held.kind in _PIPES}
    for pipe in pipes(subject.trace):
        told = set()
        writing, reading = _End(subject, pipe.writers, pipe.readers), _End(subject, pipe.readers, pipe.writers)
        for name, end, other in (("write", writing, reading), ("read", reading, writing)):
            others_wait = _Latest(subject, other.tasks)
            for holder in end.holders:
                if holder.task in told:
                    continue  # who holds both ends is told by the worse one
                if not end.has_others(holder.task) or not other.has_others(holder.task):
                    continue  # it is the one that this end is for, or nobody waits
                sure = astray.get((holder.task, holder.fd))
                if sure is None and not (name == "write" and _forked(subject, holder, end.tasks | other.tasks)):
                    continue
                if holder.task in end.uses:
                    continue
                longer = _outlasted(subject, holder, end, others_wait)
                both = holder.task in other.tasks
                if longer is None or (sure is not True and longer < _LASTING and not both):
                    continue  # it made no difference; or was handed over, as by who makes a pipe for a child
                told.add(holder.task)
                waiting = [each for each in other.holders if each.task != holder.task]
                shown = printable(raw_bytes(pipe.name))
                yield _Bystander(holder, shown, name, waiting, longer, sure=sure is True, executed=sure is not None)


def _forked(subject: Subject, holder: PipeHolder, holds: set[TaskId]) -> bool:
    """Whether a child that executed nothing has a copy of an end that its creator had."""
    task = subject.trace.tasks[holder.task]
    if holder.executed or task.images or holder.fd <= STANDARD:
        return False
    return task.creator is not None and task.creator != holder.task and task.creator in holds


def _outlasted(subject: Subject, holder: PipeHolder, end: _End, waiting: _Latest) -> Nanoseconds | None:
    """For how long it held the end, and somebody waited at the other one, after everybody else who did had ended; None
    where that was not so, or is not known."""
    last = subject.trace.ended if waiting.any_lives_without(holder.task) else waiting.without(holder.task)
    until = subject.trace.tasks[holder.task].ended
    until = last if until is None else min(until, last) if last is not None else None
    before = end.others_ended.without(holder.task)
    if until is None or before is None:
        return None
    return Nanoseconds(until - before) if until > before else None


def _held_by_bystander(subject: Subject) -> Iterator[Finding]:
    for each in subject.once(_bystanders):
        task = subject.trace.tasks[each.holder.task]
        waiting = subject.several([subject.trace.tasks[other.task] for other in each.waiting], 2)
        why = "which survived its exec" if each.executed else "which it got by fork"
        sees = "the end of the data" if each.end == "write" else "that nobody reads any more"
        text = (
            f"{waiting} could not see {sees} in {each.name}: {subject.who(task)} held its {each.end} end, {why}, for"
            f" {words.span(each.longer)} after all others that held it had ended"
        )
        waited = each.end == "write" and each.longer > _LASTING
        yield Finding(
            rule="pipe-held-by-bystander",
            severity="error" if waited else "warning",
            text=text,
            tasks=(task.id, *(other.task for other in each.waiting)),
            t=each.holder.t,
            where=subject.where(task),
            program=subject.program(task),
            sure=each.sure,
            same=(each.end, waited),
        )


RULES: Final = (
    Rule(
        id="descriptor-survived-exec",
        severity="warning",
        title="a descriptor survived an exec and nothing shows that it was meant to",
        about=(
            "The creator has it open without close-on-exec, and the new program has it at the same number. It keeps"
            " files, sockets and locks alive, and lets the program reach what it should not. A warning where the"
            " program outlived who opened it, and can write there; else a note. Seen right after each exec; who opened"
            " it is the first above that did not get it by its own exec."
        ),
        right=(
            "What the traced program was started with. What was opened or moved to its number between fork and exec"
            " (`dup2`, posix_spawn's file actions). A number or file that is among the program's arguments. What a"
            " shell opened for what it runs (`exec 3>log`, `<(cmd)`). make's jobserver. flock(1)'s file. A program that"
            " executes itself, as git does. Files, directories and devices in a program that ran for less than a minute"
            " and that ended before whoever opened them, as what `popen` and `system` start; pipes and sockets there"
            " are told."
        ),
        advice=(
            "open it with O_CLOEXEC (SOCK_CLOEXEC, pipe2, mode e of fopen); or close_range(3, ~0U, 0) before the exec"
        ),
        find=_survived,
        needs=(DESCRIPTORS,),
    ),
    Rule(
        id="pipe-held-by-bystander",
        severity="error",
        title="somebody who does not use a pipe holds one of its ends",
        about=(
            "A reader sees the end of the data when the last write end is closed. One that is held by a program that"
            " never writes there, because it survived its exec or came by fork, makes the reader wait for that program"
            " as well. Found where the bystander held it longer than all who use it while somebody still waited at the"
            " other end; an error where a reader did so for more than 100 ms. Of children that execute nothing only"
            " those are known whose own children do."
        ),
        right=(
            "Ends at 0 to 2 (`a | b`), ends that were moved to their number for the program, an end that only one task"
            " holds, and a bystander that ended before those who use it."
        ),
        advice=(
            "make the pipe with pipe2(O_CLOEXEC), as subprocess and popen do; close both ends in children that are"
            " forked"
        ),
        find=_held_by_bystander,
        needs=(DESCRIPTORS,),
        helps=(TIMES,),
    ),
)
