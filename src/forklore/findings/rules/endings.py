"""How tasks end: crashes, who killed whom, and what is left behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Final

from forklore.abi.signals import signal_name
from forklore.abi.text import printable
from forklore.abi.units import Nanoseconds
from forklore.decode.calls import Setsid
from forklore.findings.finding import Finding, Severity, Where
from forklore.findings.rule import Rule
from forklore.findings.subject import Subject, alive, place
from forklore.findings.told import REFUSALS, SENDERS, SIGKILLS, STACKS, TIMES
from forklore.model.attribution import outside_library
from forklore.model.tasks import Death, MadeCall, Task
from forklore.report.words import words
from forklore.report.words.deaths import death_words

_FAULTS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
)
"""What a program gets for what it does itself."""
_OWN_DOING: Final = frozenset({signal.SIGPIPE, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGXCPU,
                               signal.SIGXFSZ})  # fmt: skip
"""What the kernel sends for what a program did or asked for."""
_LATER: Final = 100_000_000
"""In ns: what ends so soon after the program belongs to its end."""


def _deaths(subject: Subject) -> Iterator[tuple[Task, Death]]:
    """Each process that a signal ended, once: by the thread that got it, where that is known."""
    told = set()
    ends = [(task, task.death) for task in subject.tasks if task.death is not None and task.death.signal is not None]
    # All threads of a process end by the signal that one of them got.
    ends.sort(key=lambda end: (end[1].stack is None, end[1].address is None, end[1].sender is None, end[1].by is None))
    for task, death in ends:
        process = subject.process(task)
        if process not in told:
            told.add(process)
            yield task, death


def _own(task: Task, death: Death) -> bool:
    return death.by is None and death.sender in (None, 0, task.tgid, task.tid)


def _crashes(subject: Subject) -> Iterator[Finding]:
    for task, death in _deaths(subject):
        if not _crashed(task, death):
            continue
        yield Finding(
            rule="crash",
            severity="error",
            text=f"{subject.who(task)} crashed: {death_words(death, task.tgid)}",
            tasks=(task.id,),
            t=task.ended,
            where=_where(death),
            program=subject.program(task),
            same=death.signal,
        )


def _crashed(task: Task, death: Death) -> bool:
    # abort() sends its signal to itself; any other of these that has a sender was sent by kill().
    return death.signal in _FAULTS and _own(task, death) and (death.signal == signal.SIGABRT or not death.sender)


def _where(death: Death) -> Where | None:
    found = None if death.stack is None else outside_library(death.stack)
    return None if found is None else place(found[0].place, found[1])


def _killed(subject: Subject) -> Iterator[Finding]:
    for task, death in _deaths(subject):
        if death.signal is None or _crashed(task, death) or (_own(task, death) and death.signal == signal.SIGPIPE):
            continue  # the last: the reader of its output left, as is usual
        severity, by = _by(subject, task, death)
        yield Finding(
            rule="killed",
            severity=severity,
            text=f"{subject.who(task)} was ended by {signal_name(death.signal)}{by}",
            tasks=(task.id,),
            t=task.ended,
            where=None,
            program=subject.program(task),
            sure=death.by != "oom",
            same=(death.signal, by.rpartition(" ")[2]),
        )


def _by(subject: Subject, task: Task, death: Death) -> tuple[Severity, str]:
    """How bad it is, and who sent the signal."""
    if death.by == "oom":
        return "error", ": nobody in sight sent it, and the OOM killer ended something meanwhile"
    if death.by == "tracer":
        return "note", " from forklore, which ends what is left when a trace does"
    if _own(task, death):
        if death.sender:
            return "note", " from itself"
        if death.signal in _OWN_DOING:
            return "note", ", which the kernel sends for what it did or asked for"
        if death.signal == signal.SIGKILL and SIGKILLS.missing(subject.header):
            return "note", f"; who sent it is not known: {SIGKILLS.missing(subject.header)}"
        if death.signal == signal.SIGKILL:
            return "warning", "; who sent it was not seen"
        return "note", "; by the terminal, or by nobody that was seen"
    if death.sender in (task.tgid, task.tid):
        return "note", " from itself"
    sender = _sender(subject, task, death)
    if sender is not None:
        return "note", f" from {subject.who_was(sender, task.ended)}"
    return "warning", f" from {death.sender}, which was not traced"


def _sender(subject: Subject, task: Task, death: Death) -> Task | None:
    found = [each for each in subject.tasks if each.tid == death.sender]
    alive_then = [each for each in found if task.ended is None or alive(each, task.ended)]
    known = alive_then or found
    return known[-1] if known else None


def _left_behind(subject: Subject) -> Iterator[Finding]:
    root = subject.root
    if root is None or root.death is None or root.ended is None:
        return
    for task in subject.processes:
        if task is root or task.gone == "superseded" or (task.created is not None and task.created > root.ended):
            continue
        if task.gone is not None and task.ended is not None and task.ended < root.ended:
            continue  # it was let go or lost sight of before: nobody knows until when it lived
        until = task.ended
        killed = task.death is not None and task.death.by == "tracer"
        if until is not None and until - root.ended <= _LATER and not killed and task.gone is None:
            continue
        if task.death is not None and until is None:
            continue  # a log without times
        daemon = any(isinstance(made.call, Setsid) and (made.result or 0) >= 0 for made in _calls(subject, task))
        kind = "a daemon by setsid," if daemon else "which never left its session,"
        if killed or task.death is None:
            lived = "was still there at the end of the trace"
        else:
            lived = f"lived on for {words.span(Nanoseconds((until or root.ended) - root.ended))}"
        yield Finding(
            rule="left-behind",
            severity="note" if daemon else "warning",
            text=f"{subject.who(task)}, {kind} {lived} after {subject.who(root)} had ended",
            tasks=(task.id,),
            t=root.ended,
            where=subject.where(task),
            program=subject.program(task),
            same=daemon,
        )


def _calls(subject: Subject, task: Task) -> Iterator[MadeCall]:
    for each in (task, *subject.ancestors(task)):
        if each is subject.root:
            return
        yield from each.calls


def _unnoticed(subject: Subject) -> Iterator[Finding]:
    for task in subject.processes:
        for failed in task.failed_execs:
            later = any(image.t is None or failed.t is None or image.t >= failed.t for image in task.images)
            if failed.injected or later or task.death is None or task.death.code != 0 or task is subject.root:
                continue
            tried = words.executed(failed.paths[-1], failed.at)
            yield Finding(
                rule="exec-failed-unnoticed",
                severity="warning",
                text=(
                    f"{subject.who(task)} could not execute {tried} ({words.error(failed.errnos[-1])}), and ended with"
                    " exit status 0 all the same: nobody can notice"
                ),
                tasks=(task.id,),
                t=failed.t,
                where=subject.where(task),
                program=printable(subject.program(task)),
            )


RULES: Final = (
    Rule(
        id="crash",
        severity="error",
        title="a program crashed",
        about=(
            "A signal that a program gets for what it does itself ended it: SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP,"
            " SIGSYS, or SIGABRT from itself. With the address, the function and the line, where they are known."
        ),
        right="A handled signal; a signal that somebody else sent, which is told by `killed`.",
        advice="look at that line; the core, if there is one: coredumpctl, or gdb PROGRAM core",
        find=_crashes,
        helps=(STACKS,),
    ),
    Rule(
        id="killed",
        severity="error",
        title="a process was ended by a signal",
        about=(
            "Who sent it: a traced task (by siginfo, for SIGKILL by its kill, tgkill or pidfd_send_signal), somebody"
            " outside, forklore itself, or perhaps the OOM killer: that its count rose and nobody sent SIGKILL. An"
            " error for the last, a warning where the sender was not traced, else a note."
        ),
        right="SIGPIPE, by which a writer ends whose reader left; a signal that is handled.",
        advice="ask the sender; for the OOM killer: dmesg, memory.max and memory.events of the cgroup",
        find=_killed,
        helps=(SENDERS, SIGKILLS),
    ),
    Rule(
        id="left-behind",
        severity="warning",
        title="a process outlived the program that was run",
        about=(
            "It keeps descriptors, terminals and locks, and who waits for the end of the program's output waits for it."
            " Told from 100 ms after the program's end on. A note where it, or who made it, called setsid: then it was"
            " meant to be a daemon."
        ),
        right="What ends with the program or right after it, as the rest of a pipeline does.",
        advice="wait for it, or end it (kill its process group, PR_SET_PDEATHSIG, a pidfd); redirect a daemon's 0 to 2",
        find=_left_behind,
        needs=(TIMES,),
    ),
    Rule(
        id="exec-failed-unnoticed",
        severity="warning",
        title="an exec failed and the child ended with status 0",
        about=(
            "After a failed exec the child goes on in the old program. Where it then ends with status 0 its parent"
            " takes the work for done."
        ),
        right="A child that ends with 126, 127 or any other status; a search along PATH that succeeds; posix_spawn.",
        advice="call _exit(127) after an exec function, and look at the status",
        find=_unnoticed,
        needs=(REFUSALS,),
    ),
)
