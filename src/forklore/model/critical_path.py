"""The longest chain of a trace: what had to be done one after the other, and what the end would gain if some were not.

The chain is read backwards from the end: each moment came last of all after the latest of what it came after
(:mod:`forklore.model.waits`), and the time between the two belongs to the task whose moment it is. So the chain has no
gap, and its times add up to those of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Literal

from msgspec import Struct

from forklore.abi.units import Nanoseconds, TaskId
from forklore.model.tasks import Task, Trace
from forklore.model.timing import Stretch, stretches
from forklore.model.waits import Untimed, Waits, Why, waits

After = Why | Literal["start"]


class Step(Struct, frozen=True, gc=False):
    """A stretch of the chain in which one task ran one program, or waited for what is not known."""

    task: TaskId
    program: bytes | None
    since: Nanoseconds
    until: Nanoseconds
    after: After
    """What it came after: its own creation, or one of the waits; ``start``: the first."""
    sure: bool
    """The trace knows that it did; False: time suggests it."""

    @property
    def length(self) -> int:
        """In nanoseconds."""
        return self.until - self.since


class Saving(Struct, frozen=True, gc=False):
    """What the whole would gain if something took no time."""

    program: bytes | None
    task: TaskId | None
    """One task's own time in the program; None: that of all tasks that ran it."""
    on_path: int
    """How much of it is on the chain, in nanoseconds."""
    saved: int
    """By how many nanoseconds the whole would be shorter: at most, for what others would do in the meantime, what they
    would lack then, and what a task did itself while it seems to have waited, no trace tells."""


class CriticalPath(Struct, frozen=True):
    """The chain up to the end of one task."""

    end: TaskId
    steps: tuple[Step, ...]
    """In the order of time, each beginning where the one before ends."""
    outlived: int
    """Tasks that ended after it."""
    waits: Waits

    @property
    def length(self) -> int:
        """In nanoseconds."""
        return self.steps[-1].until - self.steps[0].since if self.steps else 0

    @property
    def sure(self) -> bool:
        """The trace knows every wait of it."""
        return all(step.sure for step in self.steps)


def critical_path(trace: Trace) -> CriticalPath | Untimed:
    """The chain up to the end of what was run; of several, or of what ran before, up to the last end."""
    found = waits(trace)
    if isinstance(found, Untimed):
        return found
    end = _end(trace)
    if end is None:
        return Untimed("it has no task")
    ended = found.moments[found.ends[end.id]].t
    outlived = sum(found.moments[last].t > ended for last in found.ends.values())
    return CriticalPath(end.id, tuple(_steps(trace, found, end.id)), outlived, found)


def _end(trace: Trace) -> Task | None:
    roots = trace.roots
    if len(roots) == 1 and roots[0].how == "root":
        root = roots[0]
        while root.heir is not None:
            root = trace.tasks[root.heir]
        if root.ended is not None:
            return root
    # Its last one, where several ended at once.
    return max(trace.tasks.values(), key=lambda task: (_ended(task, trace), -task.id), default=None)


def _ended(task: Task, trace: Trace) -> int:
    return task.ended if task.ended is not None else trace.ended or 0


def _steps(trace: Trace, found: Waits, end: TaskId) -> list[Step]:
    backwards: list[tuple[TaskId, Nanoseconds, Nanoseconds, After | None, bool]] = []
    number: int | None = found.ends[end]
    while number is not None:
        moment = found.moments[number]
        latest = moment.before
        why: After | None = None if latest is not None else "start"
        sure = True
        for wait in found.waits.get(number, ()):
            if latest is None or wait.moment > latest:
                latest, why, sure = wait.moment, wait.why, wait.sure
        since = moment.t if latest is None else found.moments[latest].t
        backwards.append((moment.task, since, moment.t, why, sure))
        number = latest
    steps: list[Step] = []
    programs = _Programs(trace)
    for task, since, until, why, sure in reversed(backwards):
        if since == until:
            continue
        begun = since
        for program, ended in programs.within(task, since, until):
            last = steps[-1] if steps else None
            goes_on = why is None or begun != since
            if goes_on and last is not None and (last.task, last.program) == (task, program):
                steps[-1] = Step(task, program, last.since, Nanoseconds(ended), last.after, last.sure)
            else:
                after, known = (why, sure) if why is not None else _own(last, task)
                steps.append(Step(task, program, begun, Nanoseconds(ended), after, known))
            begun = Nanoseconds(ended)
    return steps


def _own(last: Step | None, task: TaskId) -> tuple[After, bool]:
    # Its first moment took no time, or it goes on in another program: as it was entered.
    if last is None:
        return "start", True
    return (last.after, last.sure) if last.task == task else ("created", True)


class _Programs:
    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._known: dict[TaskId, list[Stretch]] = {}

    def of(self, task: TaskId) -> list[Stretch]:
        if task not in self._known:
            self._known[task] = list(stretches(self._trace.tasks[task], self._trace.ended))
        return self._known[task]

    def within(self, task: TaskId, since: Nanoseconds, until: Nanoseconds) -> Iterator[tuple[bytes | None, int]]:
        """What it ran in that time, which is not empty, one after the other, and until when."""
        found = self.of(task)
        if not found:
            yield self._trace.tasks[task].name, until  # no end is known, neither its own nor that of the trace
        for index, each in enumerate(found):
            last = index + 1 == len(found) or each.until >= until  # what is told of it after its end counts, too
            if last or each.until > since:
                yield each.program, until if last else each.until
            if last:
                return

    def at(self, task: TaskId, until: int) -> bytes | None:
        """What it ran just before ``until``."""
        found = self.of(task)
        return next((each.program for each in found if each.until >= until), found[-1].program if found else None)


def savings(trace: Trace, path: CriticalPath, most: int) -> list[Saving]:
    """For the ``most`` programs and the ``most`` tasks with the longest part of the chain, what the whole would gain if
    they took no time; the greatest gain first.

    The trace is played again with each moment as soon as the last of what it came after allows.
    """
    by_program: dict[bytes | None, int] = {}
    by_task: dict[tuple[TaskId, bytes | None], int] = {}
    for step in path.steps:
        by_program[step.program] = by_program.get(step.program, 0) + step.length
        key = (step.task, step.program)
        by_task[key] = by_task.get(key, 0) + step.length
    programs = _Programs(trace)
    found: list[Saving] = []
    several = {program for program in by_program if sum(each == program for _, each in by_task) > 1}
    for program in sorted(by_program, key=lambda each: -by_program[each])[:most]:
        if program in several:
            saved = _saved(path, lambda task, t, name=program: programs.at(task, t) == name)  # type: ignore[misc]
            found.append(Saving(program, None, by_program[program], saved))
    for task, program in sorted(by_task, key=lambda each: -by_task[each])[:most]:

        def nothing(other: TaskId, t: int, meant: TaskId = task, name: bytes | None = program) -> bool:
            return other == meant and programs.at(other, t) == name

        found.append(Saving(program, task, by_task[task, program], _saved(path, nothing)))
    return sorted(found, key=lambda each: -each.saved)


def _saved(path: CriticalPath, took_nothing: Callable[[TaskId, int], bool]) -> int:
    moments, others = path.waits.moments, path.waits.waits
    last = path.waits.ends[path.end]
    new: list[int] = []
    for number in range(last + 1):
        moment = moments[number]
        came_after = [wait.moment for wait in others.get(number, ())]
        if moment.before is not None:
            came_after.append(moment.before)
        if not came_after:
            new.append(moment.t)
            continue
        gap = moment.t - moments[max(came_after)].t
        if gap and took_nothing(moment.task, moment.t):
            gap = 0
        new.append(max(new[other] for other in came_after) + gap)
    return moments[last].t - new[last]


def by_program(path: CriticalPath) -> list[tuple[bytes | None, int, int]]:
    """What each program has of the chain, in nanoseconds, and in how many steps; the most first."""
    ordered = sorted(path.steps, key=lambda step: step.program or b"")
    groups = [(name, list(steps)) for name, steps in groupby(ordered, key=lambda step: step.program)]
    found = [(name, sum(step.length for step in steps), len(steps)) for name, steps in groups]
    return sorted(found, key=lambda each: -each[1])
