"""The ends of tracees: who died, who took over whose tid, and who waits for those that are left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forklore.abi.units import Pid, Tid, Unavailable
from forklore.events import records as ev
from forklore.linux.wait import Kind, WaitStatus
from forklore.sources.ptrace import records, sharing
from forklore.sources.ptrace.announcers import Announcers
from forklore.sources.ptrace.creations import Creations
from forklore.sources.ptrace.held_pairs import CREATOR_DIED
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.new_tasks import NewTasks
from forklore.sources.ptrace.observer import Observers
from forklore.sources.ptrace.task_names import Renames
from forklore.sources.ptrace.task_table import Family
from forklore.sources.ptrace.tracee import Class, Group, Tracee

if TYPE_CHECKING:
    from forklore.sources.source import Emit


class Ends:
    """Takes tasks out of the trace as they end."""

    def __init__(
        self, kernel: Kernel, family: Family, creations: Creations, announcers: Announcers, new: NewTasks,
        renames: Renames, observers: Observers, emit: Emit,
    ) -> None:  # fmt: skip
        self._kernel = kernel
        self._family = family
        self._creations = creations
        self._announcers = announcers
        self._new = new
        self._renames = renames
        self._observers = observers
        self._emit = emit
        self.root: Tracee | None = None
        self.root_status: WaitStatus | None = None
        """The wait status of the root, once it has ended."""

    def ended(self, task: Tracee, status: WaitStatus, t: int) -> bool:
        """A task ended. Whether it was the root."""
        if Pid(task.tid) == task.group.tgid:
            task = self._executed_unseen(task, t)
        if task.entry is not None and task.entry.kind is Class.EXEC:
            self._emit(records.killed_in_exec(self._kernel, t, task, task.entry))
        origin = task.last_signal
        if status.kind is Kind.KILLED and origin is not None and origin.signal == status.signal:
            self._emit(
                ev.Signal(
                    t=t, task=task.id, signal=origin.signal, code=origin.code, sender=origin.sender,
                    address=origin.address,
                )
            )
        self._new.creator_gone(task, CREATOR_DIED)
        self._emit(ev.Exit(t=t, task=task.id, status=status.status))
        self._creations.ended(task.tid)
        sharing.ended(task)
        for ended in self._observers.ended:
            ended(task, t)
        if status.kind is Kind.KILLED:
            self._announcers.killed()
        group = task.group
        self._renames.look(group, t)
        if self._family.forget(task):
            for child in list(self._family.orphans(task.group)):
                self.inherited(child, t)
        if not self._family.live:
            self._kernel.end_reader()
        if task is self.root:
            self.root_status = status
        return task is self.root

    def outliving(self) -> list[tuple[Pid, bytes]]:
        """Pid and name of each process that has not ended: of a zombie the status is there, and nobody waits for it."""
        found = ((tgid, self._kernel.status(Tid(tgid)), self._family.leader(tgid)) for tgid in self._family.groups)
        return [
            (tgid, (None if leader is None else leader.comm) or fields.get(b"Name", b""))
            for tgid, fields, leader in found
            if not isinstance(fields, Unavailable) and not fields.get(b"State", b"").startswith((b"Z", b"X"))
        ]

    def _executed_unseen(self, leader: Tracee, t: int) -> Tracee:
        # A leader's status comes after those of all its threads. One that is left has executed, and was killed before
        # its event could be asked which it had been: it ends as the leader.
        left = [task.tid for task in leader.group.tasks if task is not leader]
        return self.superseded(leader, left[0], t) if len(left) == 1 else leader

    def superseded(self, leader: Tracee, former: Tid, t: int) -> Tracee:
        """The thread that was ``former`` executed, and has the place of its leader: the task that goes on."""
        self._new.creator_gone(leader, CREATOR_DIED)
        self._announcers.killed()
        self._emit(ev.Gone(t=t, task=leader.id, why="superseded"))
        task = self._family.take_over(former, leader)
        if leader is self.root:
            self.root = task
        return task

    def inherited(self, group: Group, t: int) -> None:
        """The parent of ``group`` is gone: who waits for it now, the kernel knows."""
        reaper = self._kernel.parent_of(group.tgid)
        orphan = self._family.leader(group.tgid)
        if reaper is None or orphan is None or reaper == group.parent:
            return
        self._family.hand_over(group, reaper)
        leader = self._family.leader(reaper)
        parent = None if leader is None else leader.id
        self._emit(ev.Reparent(t=t, task=orphan.id, parent_tid=reaper, parent=parent))
