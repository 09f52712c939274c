"""The ends of tracees: who died, who took over whose tid, and who waits for those that are left."""

from __future__ import annotations

from signal import SIGKILL

from msgspec.structs import replace

from forklore.abi.units import Pid, Tid, Unavailable
from forklore.events import records as ev
from forklore.linux.ours import this_process
from forklore.linux.tracing.wait import Kind, WaitStatus
from forklore.sources.outbox import Outbox
from forklore.sources.ptrace import records, sharing
from forklore.sources.ptrace.announcers import Announcers
from forklore.sources.ptrace.creations import Creations
from forklore.sources.ptrace.held_pairs import CREATOR_DIED
from forklore.sources.ptrace.held_time import TimedKernel
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.killers import Killers
from forklore.sources.ptrace.new_tasks import NewTasks
from forklore.sources.ptrace.observer import Observers
from forklore.sources.ptrace.task_names import Renames
from forklore.sources.ptrace.task_table import Family
from forklore.sources.ptrace.tracee import Class, Group, Tracee
from forklore.sources.ptrace.zombies import Zombies


class Ends:
    """Takes tasks out of the trace as they end."""

    def __init__(
        self, kernel: Kernel, family: Family, creations: Creations, announcers: Announcers, new: NewTasks,
        renames: Renames, observers: Observers, killers: Killers, zombies: Zombies, times: TimedKernel, out: Outbox,
    ) -> None:  # fmt: skip
        self._kernel = kernel
        self._family = family
        self._creations = creations
        self._announcers = announcers
        self._new = new
        self._renames = renames
        self._observers = observers
        self._killers = killers
        self._times = times
        self._zombies = zombies
        self._out = out
        self._own_peak = this_process.peak_memory()
        self.root: Tracee | None = None
        self.root_status: WaitStatus | None = None
        """The wait status of the root, once it has ended."""

    def ended(self, task: Tracee, status: WaitStatus, t: int) -> bool:
        """A task ended. Whether it was the root."""
        if Pid(task.tid) == task.group.tgid:
            task = self._executed_unseen(task, t)
        if task.entry is not None and task.entry.kind is Class.EXEC:
            self._out(records.killed_in_exec(self._kernel, t, task, task.entry))
        if status.kind is Kind.KILLED:
            self._told_why(task, status.signal, t)
        self._new.creator_gone(task, CREATOR_DIED)
        vanished = self._told_end(task, status, t)
        self._creations.ended(task.tid)
        sharing.ended(task)
        for ended in self._observers.ended:
            ended(task, t)
        if status.kind is Kind.KILLED:
            self._announcers.killed()
        group = task.group
        self._renames.look(group, t)
        if self._family.forget(task):
            self._killers.forget(task.group.tgid)
            for child in list(self._family.orphans(task.group)):
                self.inherited(child, t)
            self._zombies.parent_ended(task.group, t)
            self._zombies.ended(task, t, vanished=vanished)
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

    def _told_why(self, task: Tracee, number: int, t: int) -> None:
        origin = task.last_signal
        if origin is not None and origin.signal == number:
            record = ev.Signal(
                t=t, task=task.id, signal=number, code=origin.code, sender=origin.sender, address=origin.address
            )
            fell = task.fell
            if fell is None:
                self._out(record)
            else:
                self._out.later(lambda: self._out(replace(record, stack=fell.stack)))
        elif number == SIGKILL and (killer := self._killers.of(task)) is not None:
            self._out(ev.Signal(t=t, task=task.id, signal=number, code=0, sender=killer.pid, by=killer.by))

    def _told_end(self, task: Tracee, status: WaitStatus, t: int) -> bool:
        # Whether its zombie was gone at once.
        held, unseen, used, vanished = self._times.taken(task.tid)
        cpu, peak = used if used is not None and Pid(task.tid) == task.group.tgid else (None, None)
        if task is self.root and peak is not None and peak <= self._own_peak:
            peak = None  # that of the process that executed it, which was ours
        self._out(ev.Exit(t=t, task=task.id, status=status.status, held=held, unseen=unseen, cpu=cpu, peak=peak))
        return vanished

    def _executed_unseen(self, leader: Tracee, t: int) -> Tracee:
        # A leader's status comes after those of all its threads. One that is left has executed, and was killed before
        # its event could be asked which it had been: it ends as the leader.
        left = [task.tid for task in leader.group.tasks if task is not leader]
        return self.superseded(leader, left[0], t) if len(left) == 1 else leader

    def superseded(self, leader: Tracee, former: Tid, t: int) -> Tracee:
        """The thread that was ``former`` executed, and has the place of its leader: the task that goes on."""
        self._new.creator_gone(leader, CREATOR_DIED)
        self._announcers.killed()
        self._out(ev.Gone(t=t, task=leader.id, why="superseded"))
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
        self._out(ev.Reparent(t=t, task=orphan.id, parent_tid=reaper, parent=parent))
