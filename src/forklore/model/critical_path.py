"""The longest chain of a trace: what had to be done one after the other, and what the end would gain if some were not.

The chain is read backwards from the end: each moment came last of all after the latest of what it came after
(:mod:`forklore.model.waits`), and the time between the two belongs to the task whose moment it is. So the chain has no
gap, and its times add up to those of the whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, Literal

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
        if len(found) < 2:
            return found[0].program if found else None
        place = bisect_left(found, until, key=_until)
        return found[min(place, len(found) - 1)].program


def _until(stretch: Stretch) -> int:
    return stretch.until


def savings(trace: Trace, path: CriticalPath, most: int) -> list[Saving]:
    """For the ``most`` programs and the ``most`` tasks with the longest part of the chain, what the whole would gain if
    they took no time; the greatest gain first.

    The trace is played again for each of them.
    """
    by_program: dict[bytes | None, int] = {}
    by_task: dict[tuple[TaskId, bytes | None], int] = {}
    for step in path.steps:
        by_program[step.program] = by_program.get(step.program, 0) + step.length
        key = (step.task, step.program)
        by_task[key] = by_task.get(key, 0) + step.length
    played = _Played(path, _Programs(trace))
    several = {program for program in by_program if sum(each == program for _, each in by_task) > 1}
    found = [
        Saving(program, None, by_program[program], played.saved(played.of_program.get(program, ())))
        for program in sorted(by_program, key=lambda each: -by_program[each])[:most]
        if program in several
    ]
    found += [
        Saving(program, task, by_task[task, program], played.saved(played.of_task.get((task, program), ())))
        for task, program in sorted(by_task, key=lambda each: -by_task[each])[:most]
    ]
    return sorted(found, key=lambda each: -each.saved)


class _Played:
    """The moments up to the end of a chain, as often as it is asked what comes when something takes no time."""

    def __init__(self, path: CriticalPath, programs: _Programs) -> None:
        moments, others = path.waits.moments, path.waits.waits
        last = path.waits.ends[path.end]
        self._t = moments[last].t
        # Numbers are one more than those of the moments: what came after nothing came after 0, by its own time.
        self._after: list[int] = []
        """The moment before it, in the same task where there is one."""
        self._more: list[Sequence[int]] = []
        """What else it came after."""
        self._gaps: list[int] = []
        """For how long after the last of these."""
        self.of_program: dict[bytes | None, list[int]] = {}
        """The moments before which a program ran."""
        self.of_task: dict[tuple[TaskId, bytes | None], list[int]] = {}
        """And of these, those of one task."""
        for number in range(last + 1):
            moment = moments[number]
            more = [wait.moment + 1 for wait in others[number]] if number in others else _NOTHING
            before = moment.before + 1 if moment.before is not None else 0
            if not before and more:
                before, more = more[0], more[1:]
            latest = max(before, *more) if more else before
            gap = moment.t - moments[latest - 1].t if latest else moment.t
            if gap and latest:
                program = programs.at(moment.task, moment.t)
                self.of_program.setdefault(program, []).append(number)
                self.of_task.setdefault((moment.task, program), []).append(number)
            self._after.append(before)
            self._more.append(more)
            self._gaps.append(gap)

    def saved(self, took_nothing: Iterable[int]) -> int:
        """By how much sooner the end comes when nothing passed before these moments, each as soon as the last of what
        it came after allows."""
        gaps = self._gaps.copy()
        for number in took_nothing:
            gaps[number] = 0
        new = [0]
        for before, more, gap in zip(self._after, self._more, gaps, strict=True):
            t = new[before]
            if more:
                t = max(t, *[new[other] for other in more])
            new.append(t + gap)
        return self._t - new[-1]


_NOTHING: Final[Sequence[int]] = ()


def by_program(path: CriticalPath) -> list[tuple[bytes | None, int, int]]:
    """What each program has of the chain, in nanoseconds, and in how many steps; the most first."""
    ordered = sorted(path.steps, key=lambda step: step.program or b"")
    groups = [(name, list(steps)) for name, steps in groupby(ordered, key=lambda step: step.program)]
    found = [(name, sum(step.length for step in steps), len(steps)) for name, steps in groups]
    return sorted(found, key=lambda each: -each[1])
