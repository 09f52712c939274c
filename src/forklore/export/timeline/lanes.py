"""A lane for each task, with what it ran, what held it, and what befell it, all in nanoseconds since the trace began.

What lies in a lane nests: a hold ends where the program ends in which it began.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

from forklore.abi.errors import errno_name
from forklore.abi.signals import signal_name
from forklore.abi.text import as_text
from forklore.abi.units import PID_LIMIT, TaskId
from forklore.events.records import raw_bytes
from forklore.export.table import NO_TIMES, CannotExportError
from forklore.model.tasks import Task, Trace
from forklore.model.timing import stretches
from forklore.report.words.deaths import death_words, gone_words
from forklore.report.words.words import path

Argument = str | int
About = Literal["ran", "held", "refused", "ended", "stopped", "made"]

_ARGUMENTS: Final = 4096
"""Characters of a command line that a timeline gets; programs that draw it take no megabytes at a time."""


class Span(Struct, frozen=True, gc=False):
    """Something that took time."""

    name: str
    about: About
    since: int
    until: int
    arguments: dict[str, Argument]


class Mark(Struct, frozen=True, gc=False):
    """Something that happened at one moment."""

    name: str
    about: About
    t: int
    arguments: dict[str, Argument]


class Lane(Struct, frozen=True):
    """One task. ``pid`` and ``tid`` are the kernel's, or, where these are taken by another lane or not known,
    4194304 (which no pid reaches) plus the number of the task."""

    task: Task
    process: TaskId
    """The task that its process began with."""
    pid: int
    tid: int
    name: str
    spans: tuple[Span, ...]
    """What it ran, one after the other, each followed by what held the task in it."""
    marks: tuple[Mark, ...]
    made_by: TaskId | None
    """Whose lane has the moment at which it was made."""


class Lanes:
    """The lanes of a trace. Raises CannotExportError where it has no times."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._pids: dict[TaskId, int] = {}
        self._processes: dict[TaskId, TaskId] = {}
        self._taken: set[int] = set()
        self._successors: dict[TaskId, TaskId] = {}
        self.left_out = sum(not _timed(task, trace) for task in trace.tasks.values())
        """Tasks without times."""
        if self.left_out == len(trace.tasks):
            raise CannotExportError(NO_TIMES)

    def __iter__(self) -> Iterator[Lane]:
        for task in self._trace.tasks.values():
            if task.heir is not None:
                self._successors[task.heir] = task.id
            if _timed(task, self._trace):
                yield self._lane(task)

    def _lane(self, task: Task) -> Lane:
        process = self._process(task)
        tid = self._number(task)
        pid = tid if process == task.id else self._pids.get(process, tid)
        self._pids[task.id] = pid
        spans = tuple(_spans(task, tid, self._trace))
        name = next((span.name for span in reversed(spans) if span.about == "ran"), None) or _name(task.comm)
        creator = self._trace.tasks.get(task.creator) if task.creator is not None else None
        made_by = creator.id if creator is not None and _timed(creator, self._trace) else None
        return Lane(task, process, pid, tid, name, spans, tuple(_marks(task)), made_by)

    def _number(self, task: Task) -> int:
        tid = int(task.tid)
        if not 0 < tid < PID_LIMIT or tid in self._taken:
            return PID_LIMIT + task.id
        self._taken.add(tid)
        return tid

    def _process(self, task: Task) -> TaskId:
        # A thread that executes is the process from then on, and stays where it was.
        former = self._successors.get(task.id)
        if former is not None:
            found = self._processes.get(former, former)
        elif task.leader is None or task.leader == task.id:
            found = task.id
        else:
            found = self._processes.get(task.leader, task.leader)
        self._processes[task.id] = found
        return found


def _timed(task: Task, trace: Trace) -> bool:
    return task.created is not None and (task.ended is not None or trace.ended is not None)


def _name(comm: bytes | None) -> str:
    return as_text(comm) if comm else "?"


def _spans(task: Task, tid: int, trace: Trace) -> Iterator[Span]:
    holds = _holds(task, trace)
    hold = next(holds, None)
    about = _about(task)
    if tid != task.tid:
        about["tid"] = task.tid
    for index, stretch in enumerate(stretches(task, trace.ended)):
        arguments = about
        if task.images:
            image = task.images[index]
            arguments = {**about, "path": path(image.path)}
            if isinstance(image.argv, tuple):
                arguments["command"] = _command(image.argv)
        name = _name(stretch.program)
        yield Span(name, "ran", stretch.since, stretch.until, arguments)
        while hold is not None and (hold.since < stretch.until or stretch.last):
            since = min(max(hold.since, stretch.since), stretch.until)
            yield Span(hold.name, "held", since, min(max(hold.until, since), stretch.until), hold.arguments)
            hold = next(holds, None)


def _command(argv: tuple[bytes, ...]) -> str:
    if sum(map(len, argv)) + len(argv) <= _ARGUMENTS:
        return as_text(b" ".join(argv))
    size, shown = 0, []
    for word in argv:
        shown.append(as_text(word[: _ARGUMENTS - size]))
        size += len(word) + 1
        if size > _ARGUMENTS:
            return " ".join(shown) + " …"
    return " ".join(shown)


def _about(task: Task) -> dict[str, Argument]:
    told: dict[str, Argument] = {"task": task.id}
    if task.creator is not None:
        told["creator"] = task.creator
    if task.creation is not None:
        told["call"] = task.creation.text()
    told["end"] = gone_words(task.gone) if task.death is None else death_words(task.death)
    if task.cpu is not None:
        told["cpu_us"] = task.cpu
    if task.peak is not None:
        told["peak_kib"] = task.peak
    if task.tracer_held:
        told["held_by_forklore_ns"] = task.tracer_held
    return told


def _holds(task: Task, trace: Trace) -> Iterator[Span]:
    last = 0
    for number in task.children:
        child = trace.tasks[number]
        if child.creator == task.id and child.created is not None and child.vfork_released is not None:
            # One after the other, as they are in a task that is held: a file may say what it likes.
            last = max(child.created, last)
            until = max(child.vfork_released, last)
            yield Span("held by vfork", "held", last, until, {"child": number})
            last = until


def _marks(task: Task) -> Iterator[Mark]:
    for failure in task.failures:
        if failure.t is not None:
            why = "" if failure.errno is None else f" {errno_name(failure.errno)}"
            reasons = {"why": failure.reasons[0].text} if failure.reasons else {}
            yield Mark(f"refused: {failure.creation.call}{why}", "refused", failure.t, {**reasons})
    for failed in task.failed_execs:
        if failed.t is not None:
            told = path(failed.paths[-1])
            yield Mark(f"refused: exec {errno_name(failed.errnos[-1])}", "refused", failed.t, {"path": told})
    for call in task.calls:
        if call.t is not None and call.result is not None and call.result < 0:
            yield Mark(f"refused: {call.call.text()} {errno_name(-call.result)}", "refused", call.t, {})
    for stop in task.stops:
        if stop.t is not None:
            yield Mark(f"stopped by {signal_name(stop.signal)}", "stopped", stop.t, {})
        if stop.resumed is not None:
            yield Mark("goes on", "stopped", stop.resumed, {})
    if task.death is not None and task.ended is not None and (task.death.signal is not None or task.death.code):
        yield Mark(death_words(task.death), "ended", task.ended, {})


def commands(trace: Trace) -> str:
    """What was asked to run."""
    return _command(tuple(map(raw_bytes, trace.header.command)))
