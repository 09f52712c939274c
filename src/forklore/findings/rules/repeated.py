"""What is done again and again: searches, shells, commands, processes and threads by the hundred."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from statistics import median
from typing import Final

from msgspec import Struct

from forklore.abi.text import printable
from forklore.abi.units import Nanoseconds, Unavailable
from forklore.findings.finding import Finding
from forklore.findings.rule import Rule
from forklore.findings.subject import SHELLS, Subject, argv_of
from forklore.findings.told import ARGUMENTS, REFUSALS, TIMES
from forklore.model.tasks import Task
from forklore.report.words import words

_LONG_SEARCH: Final = 10
"""Paths that one exec tried in vain."""
_MANY_MISSES: Final = 200
"""Paths that all execs of one program's children tried in vain."""
_STORM, _PER_SECOND = 200, 50
_CHURN: Final = 200
_SHORT: Final = 20_000_000
"""In ns: for a thread that lives no longer, making it is what costs."""
_SHELLS: Final = 10
_SAME: Final = 20
_SIGNS: Final = re.compile(rb"[|&;<>()$`\\\"'*?\[\]#~=%!{}\n]")
"""What makes a command line more than words (POSIX sh, 2.2)."""
_SECOND: Final = 1_000_000_000


class _Group(Struct):
    """What the tasks of one process made that is alike."""

    creator: Task
    tasks: list[Task] = []

    def span(self) -> Nanoseconds | None:
        """From the first creation to the last."""
        times = [task.created for task in self.tasks if task.created is not None]
        return Nanoseconds(max(times) - min(times)) if len(times) == len(self.tasks) and times else None

    def lifetimes(self) -> list[int]:
        return [lived for task in self.tasks if (lived := task.lifetime) is not None]


def _grouped(subject: Subject, key: Callable[[Task], object]) -> dict[object, _Group]:
    """The tasks that have a key, by it and the process that made them."""
    found: dict[object, _Group] = {}
    for task in subject.tasks:
        creator = subject.creator(task)
        told = None if creator is None else key(task)
        if creator is not None and told is not None:
            group = found.setdefault((subject.process(creator), told), _Group(creator))
            group.tasks.append(task)
    return found


def _about(subject: Subject, rule: str, text: str, group: _Group, *, sure: bool = True) -> Finding:
    first = group.tasks[0]
    return Finding(
        rule=rule,
        severity="note",
        text=text,
        tasks=(group.creator.id, *(task.id for task in group.tasks)),
        t=first.created,
        where=subject.where(first),
        program=subject.program(group.creator, first.created),
        sure=sure,
    )


def _misses(task: Task) -> int:
    """How many execs failed before the program was found; a search that finds nothing does not count."""
    found = {_base(image.path) for image in task.images}
    return sum(len(f.paths) for f in task.failed_execs if not f.injected and _base(f.paths[-1]) in found)


def _base(path: bytes | Unavailable) -> bytes:
    return b"" if isinstance(path, Unavailable) else path.rpartition(b"/")[2]


def _searches(subject: Subject) -> Iterator[Finding]:
    for group in _grouped(subject, lambda task: "" if _misses(task) and task.images else None).values():
        counts = [_misses(task) for task in group.tasks]
        if max(counts) < _LONG_SEARCH and sum(counts) < _MANY_MISSES:
            continue
        worst = group.tasks[counts.index(max(counts))]
        program = printable(subject.program_at(worst, None))
        text = (
            f"{words.count(sum(counts), 'exec')} failed before {words.count(len(counts), 'program')} started by"
            f" {subject.who_was(group.creator, worst.created)} were found along PATH; {program} took {max(counts)}"
        )
        yield _about(subject, "exec-searched-path", text, group)


def _storms(subject: Subject) -> Iterator[Finding]:
    for group in _grouped(subject, lambda task: "" if task.kind == "process" else None).values():
        span = group.span()
        if span is None or len(group.tasks) < _STORM or len(group.tasks) * _SECOND < _PER_SECOND * span:
            continue
        lived = group.lifetimes()
        middle = f", {words.span(int(median(lived)))} each in the middle" if lived else ""
        made = words.count(len(group.tasks), "process", "processes")
        text = f"{subject.who_was(group.creator, group.tasks[0].created)} made {made} in {words.span(span)}{middle}"
        yield _about(subject, "spawn-storm", text, group)


def _churn(subject: Subject) -> Iterator[Finding]:
    for group in _grouped(subject, lambda task: "" if task.kind == "thread" else None).values():
        lived = group.lifetimes()
        if len(lived) < _CHURN or median(lived) > _SHORT:
            continue
        text = (
            f"{subject.who_was(group.creator, group.tasks[0].created)} made {words.count(len(group.tasks), 'thread')}"
            f" that lived for {words.span(int(median(lived)))} in the middle"
        )
        yield _about(subject, "thread-churn", text, group)


def _needless_shell(subject: Subject) -> Callable[[Task], object]:
    def key(task: Task) -> object:
        image = next(iter(task.images), None)
        argv = argv_of(image)
        if image is None or subject.program_at(task, image.t) not in SHELLS or len(argv) != 3 or argv[1] != b"-c":
            return None
        if _SIGNS.search(argv[2]):
            return None  # something that a shell is for
        ran = [each for number in task.children if (each := subject.trace.tasks[number]).images]
        by_exec = len(task.images) == 2 and not task.children
        by_child = len(task.images) == len(ran) == len(task.children) == 1
        return "" if by_exec or by_child else None

    return key


def _shells(subject: Subject) -> Iterator[Finding]:
    for group in _grouped(subject, _needless_shell(subject)).values():
        if len(group.tasks) < _SHELLS:
            continue
        argv = argv_of(group.tasks[0].images[0])
        text = (
            f"{subject.who_was(group.creator, group.tasks[0].created)} started {words.count(len(group.tasks), 'shell')}"
            f" that did nothing but execute one command of plain words, first: {words.command(argv)}"
        )
        yield _about(subject, "shell-only-execs", text, group)


def _same_command(subject: Subject) -> Iterator[Finding]:
    def key(task: Task) -> object:
        image = task.images[-1] if task.images else None
        argv = argv_of(image)
        return None if image is None or not argv or image.cut else (image.file, argv)

    for group in _grouped(subject, key).values():
        if len(group.tasks) < _SAME:
            continue
        lived = group.lifetimes()
        total = f", {words.span(sum(lived))} together" if lived else ""
        argv = argv_of(group.tasks[0].images[-1])
        shown = words.command(argv)
        text = (
            f"{subject.who_was(group.creator, group.tasks[0].created)} ran the same command"
            f" {len(group.tasks)} times{total}: {shown if len(shown) <= 80 else shown[:79] + '…'}"
        )
        yield _about(subject, "same-command-again", text, group)


RULES: Final = (
    Rule(
        id="exec-searched-path",
        severity="note",
        title="programs were looked for along PATH by failing execs",
        about=(
            "execvp tries each directory of PATH by an execve of its own. Found where one search failed 10 times, or"
            " those of one process's children 200 times together, before the program was found."
        ),
        right="A few misses: /usr/local comes first in most PATHs. A search that finds nothing, which is a failure.",
        advice="give the whole path, look it up once, or shorten PATH",
        find=_searches,
        needs=(REFUSALS,),
    ),
    Rule(
        id="spawn-storm",
        severity="note",
        title="one process made hundreds of processes within seconds",
        about="Found from 200 on, at 50 a second or more. Each costs some milliseconds of fork, exec and exit.",
        right="As many over a longer time; a few hundred that several processes made.",
        advice="let one process do the work of many: pass many names to one command (xargs), keep a worker",
        find=_storms,
        needs=(TIMES,),
    ),
    Rule(
        id="thread-churn",
        severity="note",
        title="one process made hundreds of threads that hardly lived",
        about="Found from 200 threads on, of which half lived for less than 20 ms.",
        right="A pool, whose threads live on.",
        advice="use a pool",
        find=_churn,
        needs=(TIMES,),
    ),
    Rule(
        id="shell-only-execs",
        severity="note",
        title="shells are started only to execute a command",
        about=(
            "`sh -c` with one command of plain words does what executing that command does, and takes a process or an"
            " exec more. Found from 10 of one process on."
        ),
        right="A command line with anything that a shell is for: a pipe, a redirection, quotes, a variable.",
        advice="execute the command itself: posix_spawn instead of system(), subprocess without shell=True",
        find=_shells,
        needs=(ARGUMENTS,),
    ),
    Rule(
        id="same-command-again",
        severity="note",
        title="one command is executed again and again with the same arguments",
        about="By one process, 20 times or more, as in a loop whose answer could be kept.",
        right="Arguments that differ; a few repetitions.",
        advice="run it once and keep its answer",
        find=_same_command,
        needs=(ARGUMENTS,),
    ),
)
