"""How close a trace came to the limits on tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from forklore.abi.text import printable
from forklore.findings.finding import Finding
from forklore.findings.rule import Rule
from forklore.findings.subject import Subject
from forklore.findings.told import LIMITS, REFUSALS, TIMES
from forklore.model.tasks import Task
from forklore.report.words import words

_EAGAIN: Final = 11
_NEAR: Final = 0.8
"""Of a limit."""
_LIMITS: Final = (
    ("rlimit_nproc", None, "RLIMIT_NPROC", "of the user's tasks, of which the trace alone"),
    ("pids_max", "pids_current", "pids.max", "of its cgroup, which"),
    ("threads_max", "threads_now", "/proc/sys/kernel/threads-max", "of the machine, which"),
)
"""The limit, what counted against it when the trace began, its name, whose it is."""


def _most_at_once(tasks: Iterable[Task]) -> int:
    """How many tasks were alive at the same time at most, threads included."""
    changes: list[tuple[int, int]] = []
    for task in tasks:
        if task.created is not None:
            changes.append((task.created, 1))
            if task.ended is not None:
                changes.append((task.ended, -1))
    alive = most = 0
    for _, change in sorted(changes):
        alive += change
        most = max(most, alive)
    return most


def _near(subject: Subject) -> Iterator[Finding]:
    told = subject.header.limits
    most = _most_at_once(subject.tasks)
    root = subject.root
    for name, counted, title, whose in _LIMITS:
        limit = told.get(name)
        before = 0 if counted is None else told.get(counted)
        if name == "rlimit_nproc" and subject.header.uid == 0:
            continue  # it does not hold for root (kernel/fork.c: copy_process)
        if not limit or before is None or before + most < limit * _NEAR or most * 20 < limit:
            continue  # not near; or not by the doing of this program
        had = f"had {most}" if counted is None else f"had {before} when it began"
        text = (
            f"{words.count(most, 'task')} of the trace lived at once, with {title} {limit} {whose} {had}:"
            f" {round((before + most) * 100 / limit)} %"
        )
        yield Finding(
            rule="task-limit-near",
            severity="warning",
            text=text,
            tasks=() if root is None else (root.id,),
            t=None,
            program="" if root is None else subject.program(root),
            same=name,
        )


def _reached(subject: Subject) -> Iterator[Finding]:
    for failure in subject.trace.failures:
        if failure.errno != _EAGAIN or failure.injected:
            continue
        task = subject.trace.tasks[failure.task]
        why = f": {printable(failure.reasons[0].text)}" if failure.reasons else ""
        yield Finding(
            rule="task-limit-reached",
            severity="error",
            text=f"{subject.who_was(task, failure.t)} could make no child: {failure.creation.call} gave EAGAIN{why}",
            tasks=(task.id,),
            t=failure.t,
            where=subject.where(failure),
            program=subject.program(task, failure.t),
            sure=bool(failure.reasons) and failure.reasons[0].certain,
            advice=printable(failure.reasons[0].advice) if failure.reasons else "",
        )


RULES: Final = (
    Rule(
        id="task-limit-reached",
        severity="error",
        title="a limit on tasks was reached",
        about="A creation gave EAGAIN: RLIMIT_NPROC, pids.max, threads-max or another of the rules in rules.md.",
        right="An error that strace injected.",
        advice="raise the limit that is named (ulimit -u, TasksMax=, --pids-limit), or make fewer tasks at once",
        find=_reached,
        needs=(REFUSALS,),
    ),
    Rule(
        id="task-limit-near",
        severity="warning",
        title="the tasks of a trace came near to a limit",
        about=(
            "From 80 % of RLIMIT_NPROC, of the cgroup's pids.max or of threads-max on, counted with what there was when"
            " the trace began; of a user's tasks only the trace's own are counted. Not where the trace has less than a"
            " twentieth of it."
        ),
        right="Many tasks one after the other; a limit that others fill; RLIMIT_NPROC of root, whom it does not bind.",
        advice="raise the limit (ulimit -u, TasksMax=, --pids-limit), or make fewer tasks at once",
        find=_near,
        needs=(LIMITS, TIMES),
    ),
)
