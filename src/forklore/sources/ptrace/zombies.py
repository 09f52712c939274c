"""What becomes of processes after their end: who takes their status, who never does, and how long they stand.

A wait is no stop. So zombies are looked for in /proc where their parent stops anyway (it does for SIGCHLD) and a few
times besides, ever more rarely: when one went is known from the last look that found it to the first that did not. A
parent that has zombies when SIGCHLD comes stops once more, at its end (PTRACE_O_TRACEEXIT): what it never waited for is
still there then, before the kernel gives it to a reaper (kernel/exit.c: do_exit, exit_notify).
"""

from __future__ import annotations

import signal
from itertools import islice
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from forklore.abi.units import Pid, TaskId, Tid, Unavailable
from forklore.events import records as ev
from forklore.linux import proc
from forklore.linux.tracing.wait import Kind, WaitStatus
from forklore.sources.ptrace.new_tasks import CREATION_STOPS
from forklore.sources.ptrace.tracee import Group, Tracee

if TYPE_CHECKING:
    from forklore.sources.ptrace.exit_stops import ExitStops
    from forklore.sources.ptrace.kernel import Kernel
    from forklore.sources.ptrace.task_table import Family
    from forklore.sources.source import Emit

_SIGCHLD: Final = int(signal.SIGCHLD)
_SIGKILL: Final = int(signal.SIGKILL)
_FIRST: Final = 10_000_000
"""Nanoseconds after which a zombie is looked for where nobody stops; then after twice as many, and so on."""
SOON: Final = _FIRST / 1e9
_LONGEST: Final = 600_000_000_000
_SHARE: Final = 50
"""Looks at a parent's stops may take one of so many parts of the time."""
_FEW: Final = 4
"""Where a parent has no more zombies, they are looked for at each SIGCHLD all the same."""
_MOST: Final = 256
"""So many zombies of one parent are looked for at a time, …"""
_MOST_AT_END: Final = 4096
"""… and so many at its end."""


class _Zombie(Struct):
    task: TaskId
    seen: int
    """When it was last seen to stand there."""


class _Parent(Struct):
    # A process that has zombies.
    number: TaskId
    """The task that leads it."""
    zombies: dict[Pid, _Zombie]
    next_look: int = 0
    """At its stops."""
    due: int = 0
    pause: int = _FIRST
    """When it is looked at whether it stops or not, and how long after the last time."""
    ends: int | None = None
    """When it was seen to end: it takes no status any more."""


class _Vanished(Struct):
    # A process that had no zombie any more when its status was taken.
    task: TaskId
    pid: Pid
    parent: Tracee
    t: int
    told: bool
    """Whether its end is told: it was looked up what its parent does with SIGCHLD."""


class Zombies:
    """Follows each process from its end to the end of its zombie."""

    def __init__(self, kernel: Kernel, family: Family, emit: Emit, ends: ExitStops) -> None:
        self._kernel = kernel
        self._family = family
        self._emit = emit
        self._ends = ends
        self.standing: dict[Pid, _Parent] = {}
        """Who has zombies."""
        self.due = 0
        """When to call :meth:`look`, …"""
        self.seconds = 0.0
        """… and so how often a wait is to be interrupted meanwhile; 0: not at all."""
        self.vanished: _Vanished | None = None
        """The last process that ended, if it had no zombie: the next status goes to :meth:`follows`."""
        self._take_it: set[Pid] = set()
        """Parents that stopped for SIGCHLD as soon as the last child of theirs had vanished."""

    def ended(self, task: Tracee, t: int, *, vanished: bool) -> None:
        """A process ended as ``task``, whose status the tracer took at ``t``: its parent can from then on.

        ``vanished``: it was gone in that moment.
        """
        pid, parent = task.group.tgid, task.group.parent
        leader = None if parent is None else self._family.leader(parent)
        if parent is None or leader is None:
            return
        if not vanished:
            self._stands(parent, leader.id, pid, _Zombie(task.id, t), t)
            return
        gone = self.vanished = _Vanished(task.id, pid, leader, t, parent not in self._take_it)
        if gone.told:
            self._tell_vanished(gone, ignored=self._ignores(leader))

    def follows(self, task: Tracee | None, status: WaitStatus) -> None:
        """What came right after the end of a process that vanished: a parent that takes SIGCHLD for it ignores none.

        What it does with SIGCHLD is asked of /proc else, which costs more than all the rest of an end.
        """
        gone, self.vanished = self.vanished, None
        assert gone is not None
        group = gone.parent.group
        taken = (
            task is not None and task.group is group and status.kind is Kind.SIGNAL and status.signal == _SIGCHLD
            and self._told_of(task.tid) == gone.pid
        )  # fmt: skip
        if taken:
            self._take_it.add(group.tgid)
        else:
            self._take_it.discard(group.tgid)
        if not gone.told:
            self._tell_vanished(gone, ignored=not taken and self._ignores(gone.parent))

    def _told_of(self, tid: Tid) -> Pid | None:
        try:
            return self._kernel.ended_child_told(tid)
        except ProcessLookupError:
            return None  # killed meanwhile

    def _tell_vanished(self, gone: _Vanished, *, ignored: bool) -> None:
        parent = gone.parent
        self._emit(
            ev.Reap(
                t=gone.t, task=gone.task, how="ignored" if ignored else "at once", since=gone.t,
                parent_tid=parent.group.tgid, parent=parent.id,
            )
        )  # fmt: skip

    def _ignores(self, parent: Tracee) -> bool:
        fields = self._kernel.status(parent.tid)
        ignored = None if isinstance(fields, Unavailable) else proc.number(fields, b"SigIgn", 16)
        return bool((ignored or 0) >> (_SIGCHLD - 1) & 1)

    def _stands(self, parent: Pid, number: TaskId, pid: Pid, zombie: _Zombie, t: int) -> None:
        found = self.standing.get(parent)
        if found is None:
            found = self.standing[parent] = _Parent(number, {})
        found.zombies[pid] = zombie
        found.pause, found.due = _FIRST, t + _FIRST
        self.due, self.seconds = min(self.due, found.due) if self.seconds else found.due, SOON

    def stopped(self, task: Tracee, status: WaitStatus, t: int) -> None:
        """A task of a process that has zombies is held."""
        parent = self.standing[task.group.tgid]
        told = status.kind is Kind.SIGNAL and status.signal == _SIGCHLD
        leaving = status.kind is Kind.EXIT
        if t >= parent.next_look or leaving or (told and len(parent.zombies) <= _FEW):
            began = self._kernel.clock()
            held = task.tid if status.kind is Kind.SIGNAL else None
            self._look(task.group.tgid, parent, t, _MOST_AT_END if leaving else _MOST, held)
            parent.next_look = t + _SHARE * (self._kernel.clock() - began)
        if leaving:
            parent.ends = t if self._is_last(task) else None
        elif told and parent.zombies:
            self._ends.add(task)
        elif not parent.zombies:
            # Or its children would stop at their ends, too.
            self._ends.drop(task, told_child=status.kind not in CREATION_STOPS)

    def _is_last(self, task: Tracee) -> bool:
        # Its process ends with it: there are no other threads, or SIGKILL waits for them (kernel/signal.c:
        # zap_other_threads).
        for other in islice(task.group.tasks, _MOST):
            if other is not task:
                fields = self._kernel.status(other.tid)
                if isinstance(fields, Unavailable) or fields.get(b"State", b"").startswith((b"Z", b"X")):
                    continue
                if not (proc.number(fields, b"SigPnd", 16) or 0) >> (_SIGKILL - 1) & 1:
                    return False
        return True

    def look(self, t: int) -> None:
        """Look where it is time to, and say when it is again."""
        for tgid, parent in list(self.standing.items()):
            if tgid not in self._family.groups:  # it was let go
                del self.standing[tgid]
            elif t >= parent.due:
                self._look(tgid, parent, t, _MOST)
                parent.pause = min(2 * parent.pause, _LONGEST)
                parent.due = t + parent.pause
        waiting = self.standing.values()
        self.due = min((parent.due for parent in waiting), default=0)
        self.seconds = min((parent.pause for parent in waiting), default=0) / 1e9

    def _look(self, tgid: Pid, parent: _Parent, t: int, most: int, held: Tid | None = None) -> None:
        gone = []
        for pid, zombie in islice(parent.zombies.items(), most):
            # To ask whether it is there at all costs less than a file of /proc that is not there.
            if self._kernel.exists(pid) and self._kernel.zombie_of(pid) == tgid:
                zombie.seen = t
            else:
                gone.append(pid)
        # They can be a reaper's, or gone by its doing, from the moment on in which the parent is a zombie itself
        # (kernel/exit.c: exit_notify does both at once); its status comes then.
        if gone and (self._is_alive(tgid) if held is None else self._is_held(held)):
            for pid in gone:
                self._told(parent.zombies.pop(pid), "waited", tgid, parent, t)
        if not parent.zombies:
            del self.standing[tgid]

    def _is_held(self, tid: Tid) -> bool:
        # The cheaper question, at the stop that most zombies are looked for at.
        try:
            self._kernel.event_message(tid)
        except ProcessLookupError:
            return False
        return True

    def _is_alive(self, pid: Pid) -> bool:
        return self._kernel.zombie_of(pid) is None and self._kernel.exists(pid)

    def _told(self, zombie: _Zombie, how: ev.ReapHow, tgid: Pid, parent: _Parent, t: int) -> None:
        self._emit(
            ev.Reap(t=t, task=zombie.task, how=how, since=zombie.seen, parent_tid=tgid, parent=parent.number)
        )

    def parent_ended(self, group: Group, t: int) -> None:
        """A process is gone that may have left zombies behind."""
        self._take_it.discard(group.tgid)
        parent = self.standing.pop(group.tgid, None)
        if parent is None:
            return
        for number, (pid, zombie) in enumerate(parent.zombies.items()):
            heir = self._kernel.zombie_of(pid) if number < _MOST_AT_END else None
            left = heir is not None or (parent.ends is not None and zombie.seen == parent.ends)
            self._told(zombie, "left" if left else "unknown", group.tgid, parent, t)
            leader = None if heir is None else self._family.leader(heir)
            if heir is not None and leader is not None:
                self._stands(heir, leader.id, pid, _Zombie(zombie.task, t), t)

    def close(self, t: int) -> None:
        """The trace ends."""
        if self.vanished is not None and not self.vanished.told:
            self._tell_vanished(self.vanished, ignored=self._ignores(self.vanished.parent))
        for tgid, parent in list(self.standing.items()):
            self._look(tgid, parent, t, _MOST_AT_END)
            for zombie in parent.zombies.values():
                self._told(zombie, "stands", tgid, parent, t)
        self.standing.clear()
