"""Children that ended: who never waited for them, for how long they stood, and who does not want to know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from forklore.findings.finding import Finding, Severity
from forklore.findings.rule import Rule
from forklore.findings.subject import Subject
from forklore.findings.told import REAPING
from forklore.model.tasks import Reaping, Task
from forklore.report.words import words

_STOOD: Final = 1_000_000_000
"""In ns: a zombie that stood for longer shows that its parent had time to wait for it."""
_LATE: Final = 10_000_000_000
"""In ns: a wait that comes so late is told."""


def _zombies(subject: Subject, *hows: str) -> Iterator[tuple[Task, Reaping, Task, int]]:
    """Each process whose zombie became one of that, its parent, and for how long it stood at least."""
    for task in subject.processes:
        stood = task.zombie
        if task.reaped and task.reaped[0].how in hows and stood is not None:
            reaping = task.reaped[0]
            yield task, reaping, subject.trace.tasks[reaping.task], stood[0]


def _finding(
    subject: Subject, rule: str, severity: Severity, text: str, task: Task, parent: Task, reaping: Reaping
) -> Finding:
    return Finding(
        rule=rule,
        severity=severity,
        text=text,
        tasks=(task.id, parent.id),
        t=reaping.t,
        where=subject.where(task),
        program=subject.program(parent, task.ended),
        same=severity,
    )


def _never(subject: Subject) -> Iterator[Finding]:
    for task, reaping, parent, stood in _zombies(subject, "left", "stands"):
        until = "ended without having waited for it" if reaping.how == "left" else "had not waited for it at the end"
        text = (
            f"{subject.who(task)} was a zombie for {words.span(stood)}: {subject.who_was(parent, task.ended)} {until}"
        )
        severity: Severity = "warning" if stood >= _STOOD or reaping.how == "stands" else "note"
        if stood >= _STOOD // 100 or reaping.how == "stands":
            yield _finding(subject, "never-waited", severity, text, task, parent, reaping)


def _late(subject: Subject) -> Iterator[Finding]:
    for task, reaping, parent, stood in _zombies(subject, "waited"):
        if stood >= _LATE:
            text = (
                f"{subject.who(task)} was a zombie for {words.span(stood)} before"
                f" {subject.who_was(parent, task.ended)} waited for it"
            )
            yield _finding(subject, "zombie-stood-long", "note", text, task, parent, reaping)


def _ignored(subject: Subject) -> Iterator[Finding]:
    for task, reaping, parent, _stood in _zombies(subject, "ignored"):
        text = f"how {subject.who(task)} ended is lost: {subject.who_was(parent, task.ended)} ignores SIGCHLD"
        yield _finding(subject, "sigchld-ignored", "note", text, task, parent, reaping)


RULES: Final = (
    Rule(
        id="never-waited",
        severity="warning",
        title="nobody waited for a child that ended",
        about=(
            "It stays a zombie and keeps its pid and its place among the tasks of its user until its parent ends, and"
            " how it ended is never noticed. Found where it stood for 10 ms or more; a warning from a second on, and"
            " where it stood still at the end of the trace."
        ),
        right="A child that ended right before its parent; one that was waited for, however late.",
        advice="call waitpid for each child, in a handler of SIGCHLD too, or let SIGCHLD be ignored on purpose",
        find=_never,
        needs=(REAPING,),
    ),
    Rule(
        id="zombie-stood-long",
        severity="note",
        title="a child was waited for long after it had ended",
        about="Found from 10 s on.",
        right="A wait that comes when other work is done.",
        advice="wait when SIGCHLD comes, or poll a pidfd of the child",
        find=_late,
        needs=(REAPING,),
    ),
    Rule(
        id="sigchld-ignored",
        severity="note",
        title="a parent ignores SIGCHLD, and how its children end is lost",
        about=(
            "With SIGCHLD ignored there are no zombies, wait() fails with ECHILD when all children have ended, and"
            " nobody learns of one that failed. It is inherited over an exec."
        ),
        right="SA_NOCLDWAIT and a child that is waited for at once look alike to a tracer, and are not told.",
        advice="if it is not on purpose, let signal(SIGCHLD, SIG_DFL) come first in the program",
        find=_ignored,
        needs=(REAPING,),
    ),
)
