"""What a vfork child may not do in the memory that it borrows, and how long it keeps its creator waiting."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from forklore.abi.flags import CLONE_VFORK, CLONE_VM
from forklore.abi.units import Nanoseconds
from forklore.events.records import Borrowed, Written, raw_bytes
from forklore.findings.finding import Finding
from forklore.findings.rule import Rule
from forklore.findings.subject import Subject
from forklore.findings.told import FLAGS, STACKS, TIMES, WRITTEN
from forklore.model.names import short_name
from forklore.model.stacks import CallStack
from forklore.model.tasks import Task
from forklore.model.vfork_holds import Holding
from forklore.report.words import words
from forklore.report.words.vfork_holds import vfork_words
from forklore.report.words.vfork_memory import borrowed_words, lasting

_BORROWS: Final = CLONE_VFORK | CLONE_VM
_LONG: Final = 500_000_000
"""In ns."""
_PID: Final = 4
"""Bytes of a pid_t."""
_POINTER: Final = 8
_LOADER: Final = re.compile(rb"ld-|ld\.so|ld64\.so")
_EXITS: Final = frozenset({b"exit", b"quick_exit", b"err", b"errx", b"error"})
"""Functions that run atexit's handlers, or at_quick_exit's."""


def _children(subject: Subject) -> Iterator[tuple[Task, Task]]:
    for task in subject.processes:
        creator = subject.creator(task)
        if creator is not None and task.form is not None and (task.form.flags or 0) & _BORROWS == _BORROWS:
            yield task, creator


def _is_pid(change: Written) -> bool:
    """What POSIX lets the child write: the variable that has vfork's result, which is 0 in the child."""
    return change.where == "live stack" and change.length <= _PID and not any(bytes.fromhex(change.new))


def _without_binding(changes: list[Written]) -> list[Written]:
    """Without what the dynamic loader did to bind functions that the child was the first to call: it counts them in its
    own data, and writes their addresses into the calling file's (.got.plt), which are no variables."""
    loader = [change for change in changes if _LOADER.match(raw_bytes(change.mapping).rpartition(b"/")[2])]
    if not loader:
        return changes
    return [c for c in changes if c not in loader and (c.variables or c.where != "data" or c.length > _POINTER)]


def _writes(subject: Subject) -> Iterator[Finding]:
    for task, creator in _children(subject):
        if subject.by_library(task):
            continue  # it knows what it may do
        for record in task.borrowed:
            if record.threads != 1:
                continue  # any change can be one of the other threads', which ran meanwhile
            kept = _without_binding([change for change in lasting(record) if not _is_pid(change)])
            if not kept and not record.remaps and not record.more:
                continue
            told = Borrowed(
                t=record.t, task=record.task, creator=record.creator, changes=kept, more=record.more,
                remaps=record.remaps, left_out=record.left_out,
            )  # fmt: skip
            yield Finding(
                rule="vfork-child-writes",
                severity="warning",
                text=f"{subject.who(task)}, a vfork child, {borrowed_words(told, subject.trace)}",
                tasks=(task.id, creator.id),
                t=task.created,
                where=subject.where(task),
                program=subject.program(creator, task.created),
            )


def _stack(subject: Subject, task: Task) -> CallStack | None:
    found = next((record.stack for record in task.borrowed if record.stack is not None), None)
    return None if found is None else subject.trace.code.stacks[found]


def _functions(stack: CallStack) -> list[bytes]:
    return [frame.place.function or b"" for frame in stack.frames]


def _exits(subject: Subject) -> Iterator[Finding]:
    for task, creator in _children(subject):
        stack = _stack(subject, task)
        called = None if stack is None else next((name for name in _functions(stack) if name in _EXITS), None)
        if called is None or task.images:
            continue
        name = short_name(called)
        text = (
            f"{subject.who(task)}, a vfork child, called {name}(): atexit's handlers ran and stdio's buffers were"
            f" written out in the memory of {subject.who(creator)}, which does so again at its own end"
        )
        yield Finding(
            rule="vfork-child-exits",
            severity="error",
            text=text,
            tasks=(task.id, creator.id),
            t=task.ended,
            where=subject.where(task),
            program=subject.program(creator, task.created),
        )


def _returns(subject: Subject) -> Iterator[Finding]:
    for task, creator in _children(subject):
        stack = _stack(subject, task)
        if stack is None or task.stack is None or task.images or stack.end != "outermost":
            continue
        # The frame that called vfork, and all that are outside of it, must still be below the child.
        caller = next((f for f in task.stack.frames if (f.place.function or b"") not in (b"vfork", b"__vfork")), None)
        if caller is None or caller.place.start is None:
            continue
        function = caller.place.module, caller.place.start
        if any((frame.place.module, frame.place.start) == function for frame in stack.frames):
            continue
        name = short_name(caller.place.function or b"")
        yield Finding(
            rule="vfork-child-returns",
            severity="error",
            text=(
                f"{subject.who(task)}, a vfork child, returned from {name}, which had called vfork: what it called"
                f" next overwrote the stack on which {subject.who(creator)} was to go on"
            ),
            tasks=(task.id, creator.id),
            t=task.ended,
            where=subject.where(task),
            program=subject.program(creator, task.created),
        )


def _long(subject: Subject) -> Iterator[Finding]:
    holding = Holding(subject.trace)
    for task, creator in _children(subject):
        held = holding.of(task)
        if held is None or held.lasted is None or held.lasted < _LONG:
            continue
        if subject.by_library(task):
            continue  # its child does nothing but execute: the machine was slow
        others = f"; {vfork_words(held, subject.trace).partition(', ')[2]} meanwhile" if held.ran_on else ""
        before = "before it executed anything" if task.images else "and executed nothing"
        yield Finding(
            rule="vfork-child-runs-long",
            severity="warning",
            text=(
                f"{subject.who(task)}, a vfork child, kept {subject.who_was(creator, task.created)} waiting for"
                f" {words.span(Nanoseconds(held.lasted))} {before}{others}"
            ),
            tasks=(task.id, creator.id),
            t=task.created,
            where=subject.where(task),
            program=subject.program(creator, task.created),
        )


RULES: Final = (
    Rule(
        id="vfork-child-exits",
        severity="error",
        title="a vfork child called exit() instead of _exit()",
        about=(
            "The child runs in its creator's memory. exit() there runs the creator's atexit handlers, writes out its"
            " stdio buffers and marks them as done: output comes twice or not at all, and locks are left as the"
            " child left them. Told by the child's call stack as it ended."
        ),
        right="A child that calls _exit(), or that executes a program.",
        advice="call _exit() in the child",
        find=_exits,
        needs=(STACKS, WRITTEN),
    ),
    Rule(
        id="vfork-child-returns",
        severity="error",
        title="a vfork child returned from the function that called vfork",
        about=(
            "Both run on one stack. When the child returns from the function and calls others, these overwrite the"
            " frame into which the creator comes back. Told by the child's call stack as it ended, on which that"
            " function is missing."
        ),
        right="A child that executes or ends within the function that called vfork, or in one that this calls.",
        advice="call _exit() or an exec function before that function returns; or call fork or posix_spawn",
        find=_returns,
        needs=(STACKS, WRITTEN),
    ),
    Rule(
        id="vfork-child-writes",
        severity="warning",
        title="a vfork child wrote into its creator's memory",
        about=(
            "POSIX lets the child of vfork write nothing but the variable that has vfork's result. What else it writes"
            " stays written in its creator. Not told of a creator with other threads: they ran meanwhile, and each"
            " change can be theirs."
        ),
        right=(
            "A pid_t on the stack that becomes 0; the part of the stack below the creator's; posix_spawn's own child,"
            " which tells an error to its caller through memory; functions that the loader binds when the child is the"
            " first to call them."
        ),
        advice="let the child do nothing but execute or _exit(); or call posix_spawn or fork",
        find=_writes,
        needs=(WRITTEN,),
    ),
    Rule(
        id="vfork-child-runs-long",
        severity="warning",
        title="a vfork child kept its creator waiting",
        about=(
            "The thread that called vfork stands still until its child executes a program or ends, and so does everyone"
            " who waits for that thread. Found from 500 ms on."
        ),
        right=(
            "A child that executes at once; those of posix_spawn and of an interpreter's library, which do nothing"
            " else, however slow the machine is; fork, whose caller goes on."
        ),
        advice="do the work before vfork or in the new program; or call fork",
        find=_long,
        needs=(TIMES,),
        helps=(FLAGS,),
    ),
)
