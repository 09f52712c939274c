"""Whom a CLONE_VFORK child held, until what, and who of the same process ran on.

Only the thread that made the call waits (kernel/fork.c: wait_for_vfork_done); all others of its process go on, in the
memory that the child borrows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import chain, islice
from math import inf
from typing import Final, Literal

from msgspec import Struct

from forklore.abi.flags import CLONE_VFORK, CLONE_VM
from forklore.abi.units import Nanoseconds, TaskId
from forklore.model.tasks import Task, Trace
from forklore.model.timing import FINE

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
    """The first of the other tasks of the creator's process that lived during that time, all or part of it. None: the
    log has no times. A first thread that ended before the others counts until its process ends: its end is reported
    only then (kernel/exit.c: delay_group_leader)."""
    more: int = 0
    """How many more did."""
    lasted: Nanoseconds | None = None
    """From ``since`` to ``until``, where times tell them apart."""


class Holding(Struct):
    """Answers for all children of a trace; it is read once, when first asked."""

    trace: Trace
    _ran: dict[TaskId, tuple[tuple[TaskId, ...], int]] | None = None
    """Who ran on, and how many more, by the child."""
    _began: dict[TaskId, TaskId] = {}
    """That task, by each heir: a thread whose exec made it the leader."""

    def of(self, child: Task) -> VforkHold | None:
        """For a CLONE_VFORK child; None for all others."""
        flags = child.form.flags if child.form is not None else None
        if child.creator is None or flags is None or not flags & CLONE_VFORK:
            return None
        creator = self.trace.tasks[child.creator]
        if self._ran is None:
            self._ran = self._read()
        ran_on, more = self._ran.get(child.id, ((), 0)) if _when(child, creator, self.trace) else (None, 0)
        return VforkHold(
            thread=creator.id,
            since=child.created,
            until=child.vfork_released,
            ended_by=_ending(child, creator),
            borrows=bool(flags & CLONE_VM),
            ran_on=ran_on,
            more=more,
            lasted=child.held,
        )

    def _read(self) -> dict[TaskId, tuple[tuple[TaskId, ...], int]]:
        tasks = self.trace.tasks.values()
        self._began = {task.heir: task.id for task in tasks if task.heir is not None}
        found: dict[TaskId, list[Task]] = {}
        asked: dict[TaskId, list[_Asked]] = {}
        for task in tasks:
            found.setdefault(self._process(task), []).append(task)
            if task.creator is not None and task.form is not None and (task.form.flags or 0) & CLONE_VFORK:
                creator = self.trace.tasks[task.creator]
                if (when := _when(task, creator, self.trace)) is not None:
                    asked.setdefault(self._process(creator), []).append((*when, task.id, creator.id))
        return {
            child: ran for process, times in asked.items() if len(found[process]) > 1
            for child, ran in _ran_on(found[process], sorted(times))
        }  # fmt: skip

    def _process(self, task: Task) -> TaskId:
        # Each exec of a thread that was not the leader makes another task the leader of the same process.
        heir = process = task.leader if task.leader is not None else task.id
        while process in self._began:
            process = self._began[process]
        while heir != process:  # the next walk is short: a process can have had any number of leaders
            self._began[heir], heir = process, self._began[heir]
        return process


_NAMED: Final = 32
_Asked = tuple[float, float, TaskId, TaskId]
"""From when to when, of which child and creator."""


def _when(child: Task, creator: Task, trace: Trace) -> tuple[float, float] | None:
    until = child.vfork_released if child.vfork_released is not None else creator.ended
    if child.created is None or (until is None and trace.ended is None) or child.coarse > FINE:
        return None
    if child.vfork_released is None and _ending(child, creator) in ("exec", "exit", "death"):
        return None  # it went on, and the log does not tell when
    return child.created, inf if until is None else until


def _ran_on(members: list[Task], asked: list[_Asked]) -> Iterator[tuple[TaskId, tuple[tuple[TaskId, ...], int]]]:
    # In the order of time, so that a process of n threads and as many vfork children is gone through once.
    born: list[tuple[float, TaskId]] = sorted((task.created, task.id) for task in members if task.created is not None)
    left = sorted((end, task.id) for task in members if (end := _left(task)) is not None)
    alive: dict[TaskId, None] = {}
    came = went = 0
    for since, until, child, creator in asked:
        while came < len(born) and born[came][0] <= since:
            alive[born[came][1]] = None
            came += 1
        while went < len(left) and left[went][0] <= since:
            alive.pop(left[went][1], None)
            went += 1
        later = range(came, bisect_left(born, (until, 0)))
        count = len(alive) + len(later) - (child in alive) - (creator in alive)
        all_ = chain(alive, (born[number][1] for number in later))
        shown = tuple(islice((task for task in all_ if task not in (child, creator)), _NAMED))
        yield child, (shown, max(count - len(shown), 0))


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
