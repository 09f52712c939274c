"""What one test made, out of the trace of the process that runs it: pure, and the same for any engine."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec import Struct

from forklore.abi.text import printable
from forklore.abi.units import TaskId, Tid
from forklore.events import records as ev
from forklore.findings.check import check
from forklore.findings.subject import Subject
from forklore.model.build import Builder
from forklore.model.tasks import Task, Trace
from forklore.model.timing import most_at_once
from forklore.report.words import words
from forklore.report.words.deaths import death_words

Span = tuple[int, int]
"""From when to when, in ns of the trace."""


class Made(Struct, frozen=True):
    """A process or thread that a test made."""

    pid: int
    kind: str
    name: str
    """What it ran last, else its name; escaped."""
    command: str = ""
    """The command line of its last exec; escaped, empty for one that executed nothing."""
    programs: list[str] = []
    """The paths of all that it executed."""
    site: str = ""
    """The line that made it, where that is known."""
    end: str = ""
    """``exit 0``, ``SIGSEGV``; empty for one that is there still."""

    def text(self) -> str:
        """``4711 sh -c 'sleep 9' (test_it.py:7)``."""
        what = self.command or self.name or self.kind
        thread = "thread " if self.kind == "thread" else ""
        return f"{thread}{self.pid} {what}" + (f" ({self.site})" if self.site else "")


class Found(Struct, frozen=True):
    """A finding of `forklore check` among what a test made."""

    rule: str
    severity: str
    text: str
    site: str = ""


class Account(Struct):
    """What one test made. Processes and threads are in the order in which they came."""

    processes: list[Made] = []
    threads: list[Made] = []
    at_once: int | None = None
    """How many of the processes lived at the same time at most; None where there are none."""
    left: list[Made] = []
    """Those of both that were there still when the test was over."""
    zombies: list[Made] = []
    """Processes that had ended and that nobody had waited for."""
    findings: list[Found] = []
    leaked: list[str] = []
    """Descriptors of the process itself that the test left open, in words."""

    def is_empty(self) -> bool:
        """Whether the test made and left nothing."""
        return not (self.processes or self.threads or self.leaked)


class Accounts:
    """Grows with the trace of a process that runs tests; tells what belongs to a span of time.

    What a process or thread of a test makes belongs to that test as well, whenever it does so.
    """

    def __init__(self, header: ev.Header, given: ev.Descriptors | None = None) -> None:
        """``given``: what the process had open when its trace began: no doing of any test."""
        self._given = given
        self.builder = Builder(header)
        self._tops: list[tuple[int, TaskId]] = []
        """What the process itself made, by when."""
        self._top: dict[TaskId, TaskId] = {}
        """By task, what of that it descends from."""
        self._below: dict[TaskId, list[TaskId]] = {}
        self._by_tid: dict[int, TaskId] = {}

    @property
    def trace(self) -> Trace:
        """All of it."""
        return self.builder.trace

    def feed(self, event: ev.Event) -> None:
        """Take the next event."""
        self.builder.feed(event)
        if isinstance(event, ev.Create):
            child, creator = TaskId(event.child), TaskId(event.task)
            top = self._top.get(creator)
            if top is None:
                top = child
                self._tops.append((event.t or 0, child))
            self._top[child] = top
            self._below.setdefault(top, []).append(child)
            self._by_tid[event.tid] = child

    def by_tid(self, tid: int) -> Task | None:
        """Who has or had that tid last, of what was made."""
        number = self._by_tid.get(tid)
        return None if number is None else self.trace.tasks[number]

    def tasks(self, span: Span, but: Iterable[Span] = (), leave_out: frozenset[TaskId] = frozenset()) -> list[Task]:
        """What began in a span, ``but`` for what began in others, with all that this made until now."""
        first = bisect_left(self._tops, (span[0], TaskId(0)))
        last = bisect_left(self._tops, (span[1], TaskId(0)))
        spans = list(but)
        tops = [
            top for t, top in self._tops[first:last]
            if top not in leave_out and not any(start <= t < end for start, end in spans)
        ]  # fmt: skip
        return [self.trace.tasks[number] for number in sorted(each for top in tops for each in self._below[top])]

    def account(
        self, tasks: Sequence[Task], is_zombie: Callable[[Tid], bool], leaked: Sequence[str] = ()
    ) -> Account:
        """What these come to. ``is_zombie``: asked of processes that have ended, by pid."""
        subject = Subject(self.trace)
        made = {task.id: _made(subject, task) for task in tasks}
        processes = [task for task in tasks if task.kind == "process"]
        ended = [task for task in processes if task.death is not None]
        return Account(
            processes=[made[task.id] for task in processes],
            threads=[made[task.id] for task in tasks if task.kind != "process"],
            at_once=most_at_once(processes) if processes else None,
            left=[made[task.id] for task in tasks if is_left(task)],
            zombies=[made[task.id] for task in ended if is_zombie(task.tid)],
            findings=_findings(self.trace, tasks, self._given),
            leaked=list(leaked),
        )


def is_left(task: Task) -> bool:
    """Whether a task is there still."""
    return task.death is None and task.gone is None


def _made(subject: Subject, task: Task) -> Made:
    where = subject.where(task)
    image = task.images[-1] if task.images else None
    argv = image.argv if image is not None and isinstance(image.argv, tuple) else ()
    programs = [printable(each.file) for each in task.images if each.file is not None]
    end = "" if is_left(task) else "taken over" if task.death is None else death_words(task.death, task.tgid)
    return Made(
        pid=task.tid,
        kind=task.kind,
        name=words.task_name(task),
        command=words.command(argv, image.cut) if image is not None else "",
        programs=programs,
        site="" if where is None else printable(where.site),
        end=end,
    )


def _findings(trace: Trace, tasks: Sequence[Task], given: ev.Descriptors | None) -> list[Found]:
    """What the rules say of these and of who made them, as if the process had nothing else."""
    kept = {task.id: task for task in tasks}
    above = {task.creator for task in tasks if task.creator is not None} - set(kept)
    roots = {number: trace.tasks[number] for number in sorted(above) if number in trace.tasks}
    whole = {number: _alone(task, kept, given) for number, task in roots.items()} | kept
    failures = [failure for failure in trace.failures if failure.task in kept]
    part = Trace(trace.header, whole, failures, trace.code)
    return [
        Found(each.first.rule, each.severity, each.first.text, printable(each.first.site))
        for each in check(part).findings
        if set(each.first.tasks) & set(kept)
    ]


def _alone(task: Task, kept: dict[TaskId, Task], given: ev.Descriptors | None) -> Task:
    """A task as if it were a program that was run, had made only those, and nothing had happened to it."""
    found = Task(*(getattr(task, name) for name in task.__struct_fields__))
    found.children = [child for child in task.children if child in kept]
    found.how, found.failed_execs = "root", ()
    found.descriptors = () if given is None else (given,)
    return found


def to_json(account: Account) -> str:
    """As text that :func:`from_json` takes."""
    return msgspec.json.encode(account).decode()


def from_json(text: str | bytes) -> Account:
    """An account out of its text."""
    return msgspec.json.decode(text, type=Account)
