"""Descriptors that nobody meant to hand on, and pipes whose end they keep from coming."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from forklore.abi.text import printable
from forklore.abi.units import Nanoseconds, TaskId, Unavailable
from forklore.events.records import Descriptors, Held, raw_bytes
from forklore.findings.finding import Finding, Severity
from forklore.findings.rule import Rule
from forklore.findings.rules.make import MAKES
from forklore.findings.subject import SHELLS, Subject, argv_of
from forklore.findings.told import DESCRIPTORS, TIMES
from forklore.model.pipes import PipeHolder, pipes, reads, writes
from forklore.model.tasks import Task
from forklore.report.words import words
from forklore.report.words.descriptors import beyond, given, held_name, key

_OF_A_SHELL: Final = 10
"""``exec 3>file`` of a shell is there to be inherited; what a shell opens for itself it puts at 10 and above."""
_LASTING: Final = 100_000_000
"""In ns: a bystander that holds an end for longer than all others have is told as what the reader waited for."""
_PIPES: Final = ("pipe", "fifo")
_WORD: Final = re.compile(rb"\d+")


class _Survivor(Struct, frozen=True):
    """A descriptor that survived an exec although nothing shows that it was meant to."""

    task: Task
    held: Held
    opener: Task
    """Who had it first, as far as was seen."""
    t: Nanoseconds | None
    sure: bool = True
    """False: its creator has nothing at that number any more, and closed it after the fork, or never had it."""


def _survivors(subject: Subject) -> Iterator[_Survivor]:
    handed = given(subject.trace)
    for task in subject.tasks:
        for record in task.descriptors:
            t = None if record.t is None else Nanoseconds(record.t)
            for held in beyond(record):
                if key(held) in handed or record.creator is None or _meant(subject, task, record, held):
                    continue
                if held.same == 0 and held.creators_cloexec is False:
                    yield _Survivor(task, held, _opener(subject, task, held), t)
                elif held.same == -errno.EBADF and held.kind in _PIPES:
                    yield _Survivor(task, held, _opener(subject, task, held), t, sure=False)


def _meant(subject: Subject, task: Task, record: Descriptors, held: Held) -> bool:
    """Whether something shows that the program was to have it."""
    t = None if record.t is None else Nanoseconds(record.t)
    creator = subject.trace.tasks[TaskId(record.creator or task.id)]
    if held.fd < _OF_A_SHELL and subject.program_at(creator, task.created) in SHELLS:
        return True
    argv = argv_of(subject.image_at(task, t))
    target = raw_bytes(held.target)
    if any(target in word or str(held.fd).encode() in _WORD.findall(word) for word in argv[1:]):
        return True  # its number or name is among the arguments
    return held.kind in _PIPES and _jobserver(subject, task, record, held)


def _jobserver(subject: Subject, task: Task, record: Descriptors, held: Held) -> bool:
    """make's jobserver is a pipe of which both ends are handed down below a make."""
    table = () if isinstance(record.table, Unavailable) else record.table
    both = [each for each in table if (each.device, each.inode) == (held.device, held.inode)]
    if not (any(map(reads, both)) and any(map(writes, both))):
        return False
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
    told = {(hanging.holder.task, hanging.name) for hanging in _bystanders(subject)}
    for each in _survivors(subject):
        if not each.sure or (each.task.id, printable(raw_bytes(each.held.target))) in told:
            continue  # the worse is told of it
        creator = subject.creator(each.task)
        opener = subject.who_was(each.opener, each.task.created)
        how = "" if creator is each.opener or creator is None else f", by way of {subject.who(creator)}"
        text = (
            f"{held_name(each.held)}, open at {each.held.fd} in {opener} without close-on-exec, survived the exec of"
            f" {subject.who_was(each.task, each.t)}{how}"
        )
        yield Finding(
            rule="descriptor-survived-exec",
            severity=_weight(each.held),
            text=text,
            tasks=(each.task.id, each.opener.id),
            t=each.t,
            where=subject.where(each.task),
            program=subject.program(each.opener, each.task.created),
            same=_object(each.held),
        )


def _object(held: Held) -> tuple[object, ...]:
    return (held.kind, held.fd) if held.kind in _PIPES else (held.kind, held.device, held.inode, held.target)


def _weight(held: Held) -> Severity:
    if held.kind in ("file", "directory", "device", "char device", "block device", "tty") and not writes(held):
        return "note"
    return "note" if raw_bytes(held.target) == b"/dev/null" else "warning"


class _Bystander(Struct, frozen=True):
    """Who holds an end of a pipe that it has no use for."""

    holder: PipeHolder
    name: str
    end: str
    others: list[PipeHolder]
    """Who holds the same end."""
    waiting: list[PipeHolder]
    """Who holds the other one."""
    sure: bool
    executed: bool
    """It survived an exec; False: a child that executed nothing has it by fork."""


def _bystanders(subject: Subject) -> Iterator[_Bystander]:
    astray = {(each.task.id, each.held.fd): each.sure for each in _survivors(subject) if each.held.kind in _PIPES}
    for pipe in pipes(subject.trace):
        told = set()
        for end, holders, waiting in (("write", pipe.writers, pipe.readers), ("read", pipe.readers, pipe.writers)):
            for holder in holders:
                if holder.task in told:
                    continue  # who holds both ends is told by the worse one
                others = [each for each in holders if each.task != holder.task]
                at_other = [each for each in waiting if each.task != holder.task]
                if not others or not at_other:
                    continue  # it is the one that this end is for, or nobody waits
                sure = astray.get((holder.task, holder.fd))
                if sure is None and not (end == "write" and _forked(subject, holder, others, at_other)):
                    continue
                both = any(each.task == holder.task for each in waiting)
                if sure is False and not both and _outlasted(subject, holder, others, at_other) is None:
                    continue  # handed over: its creator closed it, as who makes a pipe for a child does
                told.add(holder.task)
                name = printable(raw_bytes(pipe.name))
                yield _Bystander(holder, name, end, others, at_other, sure=sure is True, executed=sure is not None)


def _forked(subject: Subject, holder: PipeHolder, others: list[PipeHolder], waiting: list[PipeHolder]) -> bool:
    """Whether a child that executed nothing kept a copy of an end, and longer than all who use it."""
    task = subject.trace.tasks[holder.task]
    if holder.executed or task.images or task.creator is None or holder.fd <= 2:
        return False
    if not any(each.task == task.creator for each in (*others, *waiting)):
        return False
    return _outlasted(subject, holder, others, waiting) is not None


def _outlasted(
    subject: Subject, holder: PipeHolder, others: list[PipeHolder], waiting: list[PipeHolder]
) -> Nanoseconds | None:
    """For how long it held the end after everybody else who writes there had ended; None where it did not."""
    task = subject.trace.tasks[holder.task]
    until = task.ended if task.ended is not None else subject.trace.ended
    both = {each.task for each in waiting}  # whoever waits at the other end has closed its own copy of this one
    ends = [subject.trace.tasks[each.task].ended for each in others if each.task not in both]
    if until is None or not ends or any(end is None for end in ends):
        return None
    longer = until - max(end for end in ends if end is not None)
    return Nanoseconds(longer) if longer > _LASTING else None


def _held_by_bystander(subject: Subject) -> Iterator[Finding]:
    for each in _bystanders(subject):
        task = subject.trace.tasks[each.holder.task]
        longer = _outlasted(subject, each.holder, each.others, each.waiting) if each.end == "write" else None
        waiting = subject.several([subject.trace.tasks[other.task] for other in each.waiting], 2)
        why = "which survived its exec" if each.executed else "which it got by fork"
        if longer is not None:
            after = f"for {words.span(longer)} after all others that held it had ended"
            text = f"{waiting} could not see the end of {each.name}: {subject.who(task)} held its write end"
            text += f", {why}, {after}"
        else:
            sees = "the end of the data" if each.end == "write" else "that nobody reads any more"
            text = f"{subject.who(task)} holds the {each.end} end of {each.name} at {each.holder.fd}, {why}: {waiting}"
            text += f" does not see {sees} before it ends too"
        yield Finding(
            rule="pipe-held-by-bystander",
            severity="error" if longer is not None else "warning",
            text=text,
            tasks=(task.id, *(other.task for other in each.waiting)),
            t=each.holder.t,
            where=subject.where(task),
            program=subject.program(task),
            sure=each.sure,
            same=(each.end, longer is not None),
        )


RULES: Final = (
    Rule(
        id="descriptor-survived-exec",
        severity="warning",
        title="a descriptor survived an exec and nothing shows that it was meant to",
        about=(
            "The creator has it open without close-on-exec, and the new program has it at the same number. It keeps"
            " files, sockets and locks alive, and lets the program reach what it should not. Files that are only read"
            " are a note. Seen right after each exec; who opened it is the first above that did not get it by its own"
            " exec."
        ),
        right=(
            "What the traced program was started with. What was opened or moved to its number between fork and exec"
            " (`dup2`, posix_spawn's file actions). A number or file that is among the program's arguments. What a"
            " shell has below 10 (`exec 3>log`). make's jobserver."
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
            " as well. An error where the bystander held it longer than all who use it, so that the reader did wait."
            " Of children that execute nothing only those are known whose own children do."
        ),
        right=(
            "Both ends below 3 (`a | b`), ends that were moved to their number for the program, and an end that only"
            " one task holds."
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
