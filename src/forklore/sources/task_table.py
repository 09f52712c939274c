"""The live tasks of a trace, their thread groups, and who waits for whom: the same whichever engine sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from forklore.abi.units import Pid, TaskId, Tid
from forklore.decode.lineage import lineage


class LiveTask(Protocol):
    """What the table must know of a task; an engine's own class has more."""

    id: TaskId
    tid: Tid
    """Changes when a thread that is not the leader executes."""
    group: ThreadGroup[Any]
    depth: int
    creator: tuple[TaskId, Tid] | None
    """Who made it: not the task itself, which may be long gone."""
    comm: bytes | None
    alive: bool


Task = TypeVar("Task", bound=LiveTask)


class ThreadGroup(Generic[Task]):
    """A thread group: its tasks that are traced now, who waits for it, and which groups it waits for."""

    __slots__ = (
        "argv", "argv_look", "children", "executed", "kin_look", "next_look", "parent", "pause", "tasks", "tgid",
        "titled",
    )  # fmt: skip

    def __init__(self, tgid: Pid, parent: Pid | None) -> None:
        self.tgid = tgid
        self.parent = parent
        self.tasks: set[Task] = set()
        self.next_look = self.pause = 0
        """When the names of its tasks are looked at again, and how long after the last time."""
        self.argv: list[bytes] | None = None
        """Its command line as it was last seen; None: not known."""
        self.argv_look = 0
        """When that is looked at again."""
        self.executed = False
        """It was seen to execute."""
        self.titled = False
        """Processes of its program write their own command lines: seen of it, or of a child that runs the same."""
        self.kin_look = 0
        """When that is looked at again."""
        self.children: set[ThreadGroup[Task]] = set()


class TaskTable(Generic[Task]):
    """Every task that is traced now, by tid; task numbers are handed out here and never used again."""

    def __init__(self, make: Callable[[TaskId, Tid, ThreadGroup[Task], int], Task]) -> None:
        """``make``: a task of its number, tid, group and depth."""
        self._make = make
        self.live: dict[Tid, Task] = {}
        self.groups: dict[Pid, ThreadGroup[Task]] = {}
        self._last = 0

    def next_id(self) -> TaskId:
        """A number that no task of this trace has had."""
        self._last += 1
        return TaskId(self._last)

    @property
    def stamp(self) -> tuple[int, int]:
        """Another one after any task came or went."""
        return self._last, len(self.live)

    def add(self, tid: Tid, tgid: Pid, parent: Pid | None, depth: int) -> Task:
        """A task that no creation was seen of: its group is made where it is new."""
        group = self.groups.get(tgid) or self._new_group(tgid, parent)
        return self._new_task(tid, group, depth)

    def born(self, creator: Task, tid: Tid, flags: int) -> Task:
        """The child of a creation call with ``flags``."""
        place = lineage(flags, Pid(tid), creator.group.tgid, creator.group.parent)
        group = creator.group if place.thread else self._new_group(place.group, place.parent)
        if not place.thread:
            group.argv = creator.group.argv
        child = self._new_task(tid, group, creator.depth + 1)
        child.creator = (creator.id, creator.tid)
        child.comm = creator.comm
        return child

    def _new_task(self, tid: Tid, group: ThreadGroup[Task], depth: int) -> Task:
        task = self.live[tid] = self._make(self.next_id(), tid, group, depth)
        group.tasks.add(task)
        return task

    def _new_group(self, tgid: Pid, parent: Pid | None) -> ThreadGroup[Task]:
        group = self.groups[tgid] = ThreadGroup(tgid, parent)
        if parent is not None and parent in self.groups:
            self.groups[parent].children.add(group)
        return group

    def take_over(self, former: Tid, leader: Task) -> Task:
        """After a thread's exec: the thread that was ``former`` has its leader's tid now (fs/exec.c: de_thread)."""
        leader.alive = False
        leader.group.tasks.discard(leader)
        task = self.live.pop(former)
        task.tid = leader.tid
        self.live[task.tid] = task
        return task

    def forget(self, task: Task) -> bool:
        """A task ended. Whether its group did: a leader's status comes when all its threads are gone."""
        task.alive = False
        task.group.tasks.discard(task)
        self.live.pop(task.tid, None)
        if Pid(task.tid) != task.group.tgid:
            return False
        self.groups.pop(task.group.tgid, None)
        parent = self.groups.get(task.group.parent) if task.group.parent is not None else None
        if parent is not None:
            parent.children.discard(task.group)
        return True

    def orphans(self, group: ThreadGroup[Task]) -> Iterator[ThreadGroup[Task]]:
        """The groups that a group that ended was waiting for, and that are still there."""
        return (child for child in group.children if self.groups.get(child.tgid) is child)

    def hand_over(self, child: ThreadGroup[Task], reaper: Pid) -> None:
        """``reaper`` waits for ``child`` now."""
        child.parent = reaper
        if reaper in self.groups:
            self.groups[reaper].children.add(child)

    def leader(self, tgid: Pid) -> Task | None:
        """The task whose tid is ``tgid``, if it is traced."""
        return self.live.get(Tid(tgid))
