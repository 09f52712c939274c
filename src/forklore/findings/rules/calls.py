"""Calls with flags or signals that do something else than is meant, and calls that a filter refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from forklore.abi.flags import CLONE_FS, CLONE_NEWTIME, CLONE_PARENT, CLONE_SIGHAND
from forklore.abi.signals import signal_name
from forklore.abi.text import printable
from forklore.decode.calls import Unshare
from forklore.decode.creation import SIGCHLD
from forklore.findings.finding import Finding, Severity
from forklore.findings.rule import Rule
from forklore.findings.rules.copies import executes_soon
from forklore.findings.subject import Subject, alive
from forklore.findings.told import FILTERED, FLAGS, REFUSALS
from forklore.model.tasks import Failure, Task
from forklore.report.words import words

_ENOSYS: Final = 38
_EPERM: Final = 1
_FALLBACKS: Final = ("clone", "fork", "vfork")
_NEXT: Final = 1_000_000_000
"""In ns: a creation by the same task within this time after a refused one is taken for the second attempt."""


def _flags(task: Task) -> int:
    return 0 if task.form is None or task.form.flags is None else task.form.flags


def _exit_signal(subject: Subject) -> Iterator[Finding]:
    for task in subject.processes:
        creator, form = subject.creator(task), task.form
        if creator is None or form is None or form.exit_signal is None or form.exit_signal == SIGCHLD:
            continue
        if _flags(task) & CLONE_PARENT or (form.call == "clone" and form.exit_signal & CLONE_NEWTIME):
            continue  # the first has its creator's; the other is told by a rule of its own
        if task.images and executes_soon(task):
            continue  # fs/exec.c: de_thread makes it SIGCHLD
        signal = form.exit_signal
        sent = f"sends {signal_name(signal)}" if signal else "sends nothing"
        text = (
            f"{subject.who(task)} {sent} to {subject.who_was(creator, task.created)} when it ends, and not SIGCHLD:"
            " wait without __WALL or __WCLONE does not see it"
        )
        yield _made(subject, "exit-signal", "warning" if signal else "note", text, task, creator)


def _made(subject: Subject, rule: str, severity: Severity, text: str, task: Task, creator: Task) -> Finding:
    return Finding(
        rule=rule,
        severity=severity,
        text=text,
        tasks=(task.id, creator.id),
        t=task.created,
        where=subject.where(task),
        program=subject.program(creator, task.created),
    )


def _newtime(subject: Subject) -> Iterator[Finding]:
    for task in subject.processes:
        creator, form = subject.creator(task), task.form
        if creator is None or form is None or form.call != "clone" or not (form.exit_signal or 0) & CLONE_NEWTIME:
            continue
        rest = (form.exit_signal or 0) & ~CLONE_NEWTIME
        meant = signal_name(rest) if rest else "no signal"
        text = (
            f"clone(2) of {subject.who_was(creator, task.created)} was given CLONE_NEWTIME, which is a part of the exit"
            f" signal there: {subject.who(task)} is in no new time namespace, and sends its creator nothing where"
            f" {meant} was meant"
        )
        yield _made(subject, "newtime-in-clone", "error", text, task, creator)


def _fs_kept(subject: Subject) -> Iterator[Finding]:
    for task in subject.processes:
        creator = subject.creator(task)
        if creator is None or not _flags(task) & CLONE_FS or not task.images:
            continue
        image = task.images[0]
        if image.t is not None and not alive(creator, image.t):
            continue  # it shares with nobody any more
        if any(
            isinstance(made.call, Unshare) and (made.call.flags.raw or 0) & CLONE_FS and made.result == 0
            and (made.t is None or image.t is None or made.t <= image.t)
            for made in task.calls
        ):  # fmt: skip
            continue
        text = (
            f"{subject.who_was(task, image.t)} shares root, working directory and umask with"
            f" {subject.who_was(creator, image.t)} beyond its exec: chdir of one moves the other, and set-id programs"
            " get no privilege"
        )
        yield _made(subject, "fs-shared-over-exec", "warning", text, task, creator)


def _handlers(subject: Subject) -> Iterator[Finding]:
    for task in subject.processes:
        creator = subject.creator(task)
        if creator is None or not _flags(task) & CLONE_SIGHAND or executes_soon(task):
            continue
        text = (
            f"{subject.who(task)}, a process of its own, has its signal handlers in common with"
            f" {subject.who_was(creator, task.created)}: sigaction of one changes the other"
        )
        yield _made(subject, "handlers-shared", "note", text, task, creator)


def _refused(subject: Subject) -> Iterator[Finding]:
    for failure in subject.trace.failures:
        if failure.creation.call != "clone3" or failure.errno not in (_ENOSYS, _EPERM) or failure.injected:
            continue
        why = failure.reasons[0] if failure.reasons else None
        if failure.errno == _EPERM and (why is None or not why.rule.startswith("seccomp")):
            continue  # a privilege that the caller lacks
        task = subject.trace.tasks[failure.task]
        instead = _instead(subject, task, failure)
        error = words.error(failure.errno)
        reason = f" ({printable(why.text)})" if why is not None else ""
        if instead is not None:
            call = "a call that is not known" if instead.form is None else instead.form.call
            after = f"; {call} was called instead and made {subject.who(instead)}"
        else:
            after = ", and no other call was made instead"
        yield Finding(
            rule="clone3-refused",
            severity="note" if instead is not None else "error",
            text=f"clone3 of {subject.who_was(task, failure.t)} was refused with {error}{reason}{after}",
            tasks=(task.id, *(() if instead is None else (instead.id,))),
            t=failure.t,
            where=subject.where(failure),
            program=subject.program(task, failure.t),
            same=(failure.errno, instead is None),
        )


def _instead(subject: Subject, task: Task, failure: Failure) -> Task | None:
    for number in task.children:
        child = subject.trace.tasks[number]
        if failure.t is not None and child.created is not None:
            if child.created < failure.t:
                continue
            if child.created - failure.t > _NEXT:
                return None
        return child if child.form is not None and child.form.call in _FALLBACKS else None
    return None


RULES: Final = (
    Rule(
        id="exit-signal",
        severity="warning",
        title="a process ends with another signal than SIGCHLD",
        about=(
            "The low byte of clone's flags, or exit_signal of clone3, is what the parent is sent when the child ends."
            " With another one than SIGCHLD wait and waitpid do not report the child unless __WALL or __WCLONE is"
            " given, and with a signal that the parent does not handle it dies of its child's end. With none it is a"
            " note."
        ),
        right=(
            "Threads, which have none; CLONE_PARENT, which takes the creator's; a child that executes at once, for"
            " execve makes it SIGCHLD."
        ),
        advice="give SIGCHLD, or wait with __WALL",
        find=_exit_signal,
        helps=(FLAGS,),
    ),
    Rule(
        id="newtime-in-clone",
        severity="error",
        title="CLONE_NEWTIME was given to clone(2)",
        about=(
            "Bit 0x80 is CLONE_NEWTIME to clone3 and unshare. In clone(2) it lies in the exit signal: no namespace is"
            " made, and the signal's number is none that the kernel sends (kernel/fork.c: CSIGNAL)."
        ),
        right="clone3 and unshare with CLONE_NEWTIME.",
        advice="call clone3, or unshare(CLONE_NEWTIME) before the fork",
        find=_newtime,
        helps=(FLAGS,),
    ),
    Rule(
        id="fs-shared-over-exec",
        severity="warning",
        title="CLONE_FS outlives an exec",
        about=(
            "execve gives a process a memory, handlers and a descriptor table of its own, but not a root, working"
            " directory and umask. While it shares these with another process a set-user-id program that it executes"
            " runs without its privilege (fs/exec.c: check_unsafe_exec)."
        ),
        right="A creator that has ended before the exec; unshare(CLONE_FS) before it; threads that execute.",
        advice="leave out CLONE_FS, or call unshare(CLONE_FS) before the exec",
        find=_fs_kept,
        helps=(FLAGS,),
    ),
    Rule(
        id="handlers-shared",
        severity="note",
        title="a process shares its signal handlers with its creator",
        about=(
            "CLONE_SIGHAND makes one table of handlers for both: a child that resets its handlers, as many do, takes"
            " them from its creator."
        ),
        right="Threads; a child that executes at once, which gets a table of its own.",
        advice="leave out CLONE_SIGHAND, or give CLONE_CLEAR_SIGHAND to clone3",
        find=_handlers,
        helps=(FLAGS,),
    ),
    Rule(
        id="clone3-refused",
        severity="error",
        title="a filter refuses clone3",
        about=(
            "Container runtimes answer clone3 with ENOSYS, for a seccomp filter cannot look into its struct; C"
            " libraries then call clone, which is a note. Filters that answer EPERM make every thread and process that"
            " is made by clone3 fail, which is an error."
        ),
        right="A refusal that the caller earned: flags without the privilege that they need, an injected error.",
        advice="let the filter answer clone3 with ENOSYS, or allow it",
        find=_refused,
        needs=(REFUSALS,),
        helps=(FILTERED,),
    ),
)
