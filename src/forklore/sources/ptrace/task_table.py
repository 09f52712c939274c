"""The live tasks, their thread groups, and who waits for whom."""

from __future__ import annotations

from collections.abc import Iterator

from forklore.abi.flags import CLONE_NEWPID, CLONE_VM
from forklore.abi.units import Pid, TaskId, Tid
from forklore.decode.lineage import lineage
from forklore.sources.ptrace.options import Follow, Options
from forklore.sources.ptrace.tracee import Group, Tracee


class Family:
    """Every task that is traced now, by tid; task numbers are handed out here and never used again."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.live: dict[Tid, Tracee] = {}
        self.groups: dict[Pid, Group] = {}
        self._last = 0

    def next_id(self) -> TaskId:
        """A number that no task of this trace has had."""
        self._last += 1
        return TaskId(self._last)

    def add(self, tid: Tid, tgid: Pid, parent: Pid | None, depth: int) -> Tracee:
        """A task that no creation was seen of: its group is made where it is new."""
        group = self.groups.get(tgid) or self._new_group(tgid, parent)
        return self._new_task(tid, group, depth)

    def born(self, creator: Tracee, tid: Tid, flags: int) -> Tracee:
        """The child of a creation call with ``flags``."""
        place = lineage(flags, Pid(tid), creator.group.tgid, creator.group.parent)
        group = creator.group if place.thread else self._new_group(place.group, place.parent)
        child = self._new_task(tid, group, creator.depth + 1)
        child.creator = (creator.id, creator.tid)
        child.comm = creator.comm
        if creator.space is not None:
            child.space = creator.space if flags & CLONE_VM else creator.space.copy()
        child.time_pending = creator.time_pending
        child.nested = child.parted = creator.parted or bool(flags & CLONE_NEWPID)
        child.keep = self._follows(child, thread=place.thread)
        return child

    def _new_task(self, tid: Tid, group: Group, depth: int) -> Tracee:
        task = self.live[tid] = Tracee(self.next_id(), tid, group, depth)
        group.tasks.add(task)
        return task

    def _new_group(self, tgid: Pid, parent: Pid | None) -> Group:
        group = self.groups[tgid] = Group(tgid, parent)
        if parent is not None and parent in self.groups:
            self.groups[parent].children.add(group)
        return group

    def _follows(self, child: Tracee, *, thread: bool) -> bool:
        options = self._options
        if options.max_depth is not None and child.depth > options.max_depth:
            return False
        return options.follow is Follow.ALL or options.follow is (Follow.THREADS if thread else Follow.PROCESSES)

    def take_over(self, former: Tid, leader: Tracee) -> Tracee:
        """After a thread's exec: the thread that was ``former`` has its leader's tid now (fs/exec.c: de_thread)."""
        leader.alive = False
        leader.group.tasks.discard(leader)
        task = self.live.pop(former)
        task.tid = leader.tid
        self.live[task.tid] = task
        return task

    def forget(self, task: Tracee) -> bool:
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

    def orphans(self, group: Group) -> Iterator[Group]:
        """The groups that a group that ended was waiting for, and that are still there."""
        return (child for child in group.children if self.groups.get(child.tgid) is child)

    def hand_over(self, child: Group, reaper: Pid) -> None:
        """``reaper`` waits for ``child`` now."""
        child.parent = reaper
        if reaper in self.groups:
            self.groups[reaper].children.add(child)

    def leader(self, tgid: Pid) -> Tracee | None:
        """The task whose tid is ``tgid``, if it is traced."""
        return self.live.get(Tid(tgid))
