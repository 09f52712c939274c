"""Whom a CLONE_VFORK child held, until what, and who of the same process ran on.

Only the thread that made the call waits (kernel/fork.c: wait_for_vfork_done); all others of its process go on, in the
memory that the child borrows.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from forklore.abi.flags import CLONE_VFORK, CLONE_VM
from forklore.abi.units import Nanoseconds, TaskId
from forklore.model.tasks import Task, Trace

Ending = Literal["exec", "exit", "death", "creator"]
"""What let the creator go: the child executed, exited, or was killed. ``creator``: it ended while it waited, by a
signal or with its process."""


class VforkHold(Struct, frozen=True):
    """What a CLONE_VFORK child did to its creator."""

    thread: TaskId
    """The task that waited: the one that made the call, and no other of its process."""
    since: Nanoseconds | None
    until: Nanoseconds | None
    """When it went on. None: it did not within the trace, was killed first, or the log has no times."""
    ended_by: Ending | None
    """None: still held at the end of the trace, or not known."""
    borrows: bool
    """Whether the child ran in its creator's memory; without CLONE_VM in a copy of it."""
    ran_on: tuple[TaskId, ...] | None
    """The other tasks of the creator's process that lived during that time, all or part of it. None: the log has no
    times. A first thread that ended before the others counts until its process ends: its end is reported only then
    (kernel/exit.c: delay_group_leader)."""


class Holding(Struct):
    """Answers for all children of a trace; it is read once, when first asked."""

    trace: Trace
    _members: dict[TaskId, list[Task]] | None = None
    """The tasks of each process that has more than one, by the task that it began with."""
    _began: dict[TaskId, TaskId] = {}
    """That task, by each heir: a thread whose exec made it the leader."""

    def of(self, child: Task) -> VforkHold | None:
        """For a CLONE_VFORK child; None for all others."""
        flags = child.form.flags if child.form is not None else None
        if child.creator is None or flags is None or not flags & CLONE_VFORK:
            return None
        creator = self.trace.tasks[child.creator]
        return VforkHold(
            thread=creator.id,
            since=child.created,
            until=child.vfork_released,
            ended_by=_ending(child, creator),
            borrows=bool(flags & CLONE_VM),
            ran_on=self._ran_on(child, creator),
        )

    def _ran_on(self, child: Task, creator: Task) -> tuple[TaskId, ...] | None:
        since = child.created
        until = child.vfork_released if child.vfork_released is not None else creator.ended
        if since is None or (until is None and self.trace.ended is None):
            return None
        if self._members is None:
            self._members = self._read()
        others = self._members.get(self._process(creator), ())
        return tuple(
            other.id
            for other in others
            if other.id not in (child.id, creator.id) and _lived_between(other, since, until)
        )

    def _read(self) -> dict[TaskId, list[Task]]:
        tasks = self.trace.tasks.values()
        self._began = {task.heir: task.id for task in tasks if task.heir is not None}
        found: dict[TaskId, list[Task]] = {}
        for task in tasks:
            found.setdefault(self._process(task), []).append(task)
        return {process: members for process, members in found.items() if len(members) > 1}

    def _process(self, task: Task) -> TaskId:
        # Each exec of a thread that was not the leader makes another task the leader of the same process.
        process = task.leader if task.leader is not None else task.id
        while process in self._began:
            process = self._began[process]
        return process


def _lived_between(task: Task, since: Nanoseconds, until: Nanoseconds | None) -> bool:
    if task.created is None:
        return False
    left = _left(task)
    return (until is None or task.created < until) and (left is None or left > since)


def _left(task: Task) -> Nanoseconds | None:
    """When it was known to run no more. A CLONE_VFORK child that did not execute lets its creator go when it has left
    its memory (kernel/fork.c: mm_release), which is before its end is reported."""
    if task.vfork_released is None or task.images or task.heir is not None:
        return task.ended
    return task.vfork_released


def _ending(child: Task, creator: Task) -> Ending | None:
    if child.vfork_released is None and _ended_before(creator, child):
        return "creator"
    # A vfork child's first exec is what lets the creator go, whatever it does afterwards; its event comes later.
    if child.images or child.heir is not None:
        return "exec"
    if child.death is None:
        return None
    return "exit" if child.death.signal is None else "death"


def _ended_before(creator: Task, child: Task) -> bool:
    let_go = child.images[0].t if child.images else child.ended
    return creator.ended is not None and (let_go is None or creator.ended < let_go)
