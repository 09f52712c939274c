"""Where the time of a trace went as one JSON object, documented in docs/time.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Final

import msgspec
from msgspec import Struct

from forklore.events import records as ev
from forklore.export.json_tree.parts import Span, TaskNumber, Time, named
from forklore.export.json_tree.tree import FormatObject
from forklore.export.table import ExportOptions
from forklore.model.critical_path import After, CriticalPath, Saving, Step, critical_path, savings
from forklore.model.tasks import Task, Trace
from forklore.model.timing import Program, alone, changes_at_once, cpu_of, own_cpu, programs
from forklore.model.waits import Untimed

FORMAT: Final = FormatObject("forklore-time", (1, 0))
SAVINGS: Final = 10
"""Programs, and tasks, for which it is found out what would be gained."""


class TimeObject(Struct, frozen=True):
    """Where the time went."""

    format: FormatObject
    """What it is."""
    cpu: int | None
    """CPU time in µs of all processes together; null: not told."""
    at_once: Sequence[tuple[int, int]] | None
    """When the number of living processes changed, and to how many; null where times do not tell."""
    programs: Sequence[ProgramObject]
    """What ran, by the name of its file; the longest together first."""
    tasks: Sequence[TaskTimeObject]
    """Every process, the one that was longest without a child of its own first."""
    critical_path: CriticalPathObject | NoPathObject
    """What had to be done one after the other up to the end."""


class ProgramObject(Struct, frozen=True):
    """A program."""

    program: ev.Text | None
    """The name of its file; null: not known."""
    runs: int
    """How often it ran."""
    wall: Span
    """For how long together."""
    cpu: int | None
    """CPU time in µs of the processes that ended in it, without their children's."""
    peak: int | None
    """The most memory in KiB that one of them had, or a child that it waited for."""
    longest: TaskNumber | None
    """Who ran it longest."""
    longest_wall: Span | None
    """For how long."""

    @classmethod
    def of(cls, program: Program) -> ProgramObject:
        """One of :func:`programs`."""
        longest = program.longest
        return cls(
            named(program.name),
            program.count,
            program.wall,
            program.cpu,
            program.peak,
            None if longest is None else longest.task,
            None if longest is None else longest.until - longest.since,
        )


class TaskTimeObject(Struct, frozen=True, gc=False):
    """A process."""

    task: TaskNumber
    """Which."""
    alone: Span
    """For how long of its life it had no child of its own."""
    lifetime: Span | None
    """From its creation to its end."""
    cpu: int | None
    """CPU time in µs without its children's; null: not known."""
    peak: int | None
    """As in the tree."""


class StepObject(Struct, frozen=True, gc=False):
    """A part of the critical path."""

    task: TaskNumber
    """Whose time it is."""
    program: ev.Text | None
    """What it ran."""
    since: Time
    """From when, which is until when the one before went on."""
    until: Time
    """Until when."""
    after: After
    """What it came after: ``start``, ``created`` (its own creation), ``vfork`` (its child let it go), ``wait`` (a child
    ended), ``join`` (a thread ended), ``pipe`` (the last writer of a pipe that it reads ended)."""
    sure: bool
    """The trace knows that it did; false: only time suggests it."""

    @classmethod
    def of(cls, step: Step) -> StepObject:
        """One of the path."""
        return cls(step.task, named(step.program), step.since, step.until, step.after, step.sure)


class SavingObject(Struct, frozen=True, gc=False):
    """What the whole would gain if something took no time."""

    program: ev.Text | None
    """All that ran this, …"""
    task: TaskNumber | None
    """… or what this task did in it."""
    on_path: Span
    """How much of it is on the path."""
    saved: Span
    """By how much the whole would be shorter, at most."""

    @classmethod
    def of(cls, saving: Saving) -> SavingObject:
        """One of :func:`savings`."""
        return cls(named(saving.program), saving.task, saving.on_path, saving.saved)


class CriticalPathObject(Struct, frozen=True):
    """The longest chain."""

    end: TaskNumber
    """Whose end it leads to."""
    length: Span
    """From its beginning to that end."""
    outlived: int
    """How many tasks ended later."""
    steps: Sequence[StepObject]
    """In the order of time, without a gap."""
    savings: Sequence[SavingObject]
    """What would be gained, the most first."""

    @classmethod
    def of(cls, trace: Trace, path: CriticalPath) -> CriticalPathObject:
        """The chain of a trace."""
        found = [SavingObject.of(each) for each in savings(trace, path, SAVINGS)]
        return cls(path.end, path.length, path.outlived, [StepObject.of(step) for step in path.steps], found)


class NoPathObject(Struct, frozen=True):
    """In its place where it is not known."""

    unknown: str
    """Why."""


def times(trace: Trace) -> TimeObject:
    """The object of a trace."""
    path = critical_path(trace)
    without_child = alone(trace)
    own = own_cpu(trace)
    tasks = sorted(without_child, key=lambda task: -without_child[task])
    return TimeObject(
        FORMAT,
        cpu_of(trace.tasks.values()),
        changes_at_once(trace.tasks.values()),
        [ProgramObject.of(program) for program in programs(trace)],
        [_task(trace.tasks[number], without_child[number], own.get(number)) for number in tasks],
        NoPathObject(path.why) if isinstance(path, Untimed) else CriticalPathObject.of(trace, path),
    )


def _task(task: Task, without_child: int, cpu: int | None) -> TaskTimeObject:
    return TaskTimeObject(task.id, without_child, task.lifetime, cpu, task.peak)


def write(trace: Trace, out: IO[bytes], _options: ExportOptions) -> None:
    """Write the object."""
    out.write(msgspec.json.format(msgspec.json.encode(times(trace)), indent=2) + b"\n")
