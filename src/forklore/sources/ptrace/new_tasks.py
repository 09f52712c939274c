"""How tasks come into the trace: announced by their creators, or found when nobody announces them any more."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from forklore.abi.units import Pid, Tid, Unavailable
from forklore.events import records as ev
from forklore.linux import proc
from forklore.linux.tracing.wait import Kind, WaitStatus
from forklore.sources.outbox import Outbox
from forklore.sources.ptrace import records
from forklore.sources.ptrace.creations import CreationInFlight, Creations, State
from forklore.sources.ptrace.deferred import Deferred
from forklore.sources.ptrace.entry import EntryReader
from forklore.sources.ptrace.held_pairs import CHILD_DIED, HeldPairs
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.observer import Observers
from forklore.sources.ptrace.task_names import Renames
from forklore.sources.ptrace.task_table import Family
from forklore.sources.ptrace.tracee import EnteredCall, Tracee

CREATION_STOPS: Final[dict[Kind, ev.CreateStop]] = {Kind.FORK: "fork", Kind.VFORK: "vfork", Kind.CLONE: "clone"}


class NewTasks:
    """Makes the tasks of a trace as their creations come about, and holds creator and child together meanwhile."""

    def __init__(
        self, kernel: Kernel, family: Family, creations: Creations, reader: EntryReader, renames: Renames,
        observers: Observers, deferred: Deferred, pairs: HeldPairs, out: Outbox, go: Callable[[Tid], None],
        ran: Callable[[Tid], int],
    ) -> None:  # fmt: skip
        """``go`` restarts a creator; ``ran``: for how long a task that is held ran before."""
        self._kernel = kernel
        self._family = family
        self._creations = creations
        self._reader = reader
        self._renames = renames
        self._observers = observers
        self._deferred = deferred
        self._pairs = pairs
        self._out = out
        self._go = go
        self._ran = ran

    def announced(self, creator: Tracee, tid: Tid, kind: Kind, t: int) -> tuple[Tracee, WaitStatus | None]:
        """A creator's event tells of ``tid``: the child, which is held if it has a status already."""
        if self._creations.is_in_call(creator):
            entry = creator.entry
            if entry is not None:
                entry.took = self._ran(creator.tid)
        else:
            entry = self._made_by(creator, t)
        creator.entry = None
        child = self._family.born(creator, tid, entry.flags if entry is not None else 0)
        early = self._creations.announced(creator, child, entry, t, CREATION_STOPS[kind])
        if child.group is creator.group:
            self._renames.look(creator.group, t)
        return child, early

    def _made_by(self, task: Tracee, t: int) -> EnteredCall | None:
        # The call that no entry stop was seen of.
        try:
            entry = self._reader.from_registers(task.tid, t)
            if entry is not None:
                self.look_behind(task, entry, t)
        except ProcessLookupError:
            return None  # killed in its event stop: that it made a child, and which, is known all the same
        return entry

    def stopped(self, creation: CreationInFlight, status: WaitStatus, *, may_wait: bool) -> Tracee | None:
        """The first status of a child that was announced: the child, or None where it is let go.

        ``may_wait``: what is written of it may be put off.
        """
        child = creation.child
        assert child is not None
        if creation.entry is not None and creation.entry.cleared and not status.ended:
            self._reader.put_back(child.tid, creation.entry)
        if creation.state is State.ANNOUNCED:
            self._both_held(creation, status, may_wait=may_wait)
        if child.keep:
            return child
        self._family.forget(child)
        if not status.ended:
            self._kernel.detach(child.tid, status.signal if status.kind is Kind.SIGNAL else 0)
        return None

    def _both_held(self, creation: CreationInFlight, status: WaitStatus, *, may_wait: bool) -> None:
        creator, entry = creation.creator, creation.entry
        assert creator is not None
        told = self._pairs.look(creation, CHILD_DIED if status.ended else None)
        # Nothing else is told of a child that stops as all do at first, before this is.
        if status.kind is Kind.TRAP and may_wait and self._pairs.may_run(creation):
            self._deferred.work.append(told)
        else:
            told.run()
        if entry is not None and entry.cleared:
            self._reader.put_back(creator.tid, entry)
        self._creations.told(creation)
        with suppress(ProcessLookupError):  # killed while it was held
            self._go(creator.tid)

    def creator_gone(self, creator: Tracee, why: Unavailable) -> None:
        """Nobody will be held with the child that ``creator`` has announced, if there is one."""
        creation = self._creations.creator_gone(creator)
        if creation is not None:
            self._pairs.look(creation, why).run()

    def adopted(self, tid: Tid, made: CreationInFlight | None, t: int) -> tuple[Tracee, WaitStatus]:
        """Nobody will tell of a child any more, which ``made`` has made: the child, and the status that it has."""
        status = self._creations.adopted(tid, made)
        if made is not None and made.creator is not None and made.entry is not None:
            return self._born(made.creator, made.entry, tid, status, t), status
        return self._found(tid, t), status

    def _born(self, creator: Tracee, entry: EnteredCall, tid: Tid, status: WaitStatus, t: int) -> Tracee:
        child = self._family.born(creator, tid, entry.flags)
        record = records.create(
            self._kernel, t, creator.id, child.id, tid, entry, self._pairs.machine,
            stop=None, traced=True, nested=child.nested,
        )  # fmt: skip
        records.tell(self._out, record, entry)
        if entry.cleared and not status.ended:
            self._reader.put_back(tid, entry)
        return child

    def _found(self, tid: Tid, t: int) -> Tracee:
        fields = self._kernel.status(tid)
        tgid, parent = Pid(tid), None
        if not isinstance(fields, Unavailable):
            tgid = Pid(proc.number(fields, b"Tgid") or tid)
            parent = Pid(proc.number(fields, b"PPid") or 0)
        child = self._family.add(tid, tgid, parent, depth=1)
        self._out(ev.Begin(t=t, task=child.id, tid=tid, tgid=tgid, how="adopted", parent_tid=parent))
        return child

    def look_behind(self, task: Tracee, entry: EnteredCall, t: int) -> None:
        """``task`` is held in a creation call: who makes it."""
        for creating in self._observers.creating:
            work = creating(task, entry, t)
            if work is not None:
                self._deferred.work.append(work)
