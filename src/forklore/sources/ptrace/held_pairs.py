"""What is asked of the kernel and written down when a creation's two sides are both held."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import astuple

from forklore.abi.arch import Arch
from forklore.abi.resources import APART
from forklore.abi.units import Pid, Unavailable
from forklore.events import records as ev
from forklore.linux import observe
from forklore.sources.outbox import Outbox
from forklore.sources.ptrace import records, sharing
from forklore.sources.ptrace.creations import CreationInFlight
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.observer import Observers
from forklore.sources.ptrace.options import Observe
from forklore.sources.ptrace.tracee import EnteredCall, Tracee

CHILD_DIED: Final = Unavailable(0, "the child was killed before its first stop")
CREATOR_DIED: Final = Unavailable(0, "the creator was killed before the child's first stop")
CREATOR_GONE: Final = Unavailable(0, "the creator was let go before the child's first stop")


class HeldPairs:
    """Looks at a creator and its new child, and tells of the creation."""

    def __init__(
        self, kernel: Kernel, machine: Arch, level: Observe, out: Outbox, observers: Observers
    ) -> None:
        self._kernel = kernel
        self.machine = machine
        self._level = level
        self._out = out
        self._observers = observers

    def look(self, creation: CreationInFlight, apart: Unavailable | None = None) -> Told:
        """Ask what can be asked only while the two are held; to run what is given back writes the event.

        ``apart``: why they cannot be looked at together. With :meth:`may_run` they may run while that is done.
        """
        child, creator, entry = creation.child, creation.creator, creation.entry
        assert child is not None
        assert creator is not None
        seen: observe.Pair | None = None
        standing: ev.Standing | Unavailable | None = None
        if apart is None:
            if self._level is not Observe.NONE:
                seen = self._kernel.pair(creator.tid, child.tid, None if entry is None else entry.flags)
            if self._may_stand_apart(child, creator, entry):
                standing = records.standing(self._kernel, child.tid)
        return Told(self, creation, creator, child, apart, seen, standing)

    def may_run(self, creation: CreationInFlight) -> bool:
        """Whether writing what was seen asks nothing more of the two, so that they need not be held for it."""
        return not (creation.child is not None and creation.child.nested) and not self._observers.holds_creations

    def write(self, told: Told) -> None:
        """Write a creation's event."""
        creation, child, creator = told.creation, told.child, told.creator
        seen: tuple[int, ...] | Unavailable | None = told.apart if self._level is not Observe.NONE else None
        if told.pair is not None:
            seen = astuple(told.pair)
            sharing.joined(creator, child, seen)
        record = records.create(
            self._kernel, creation.t, creator.id, child.id, child.tid, creation.entry, self.machine,
            stop=creation.stop, traced=child.keep, nested=child.nested, kcmp=seen, standing=told.standing,
        )  # fmt: skip
        records.tell(self._out, record, creation.entry)
        if told.apart is None and creation.entry is not None:
            for created in self._observers.created:
                created(creator, child, creation.entry, creation.t)

    def _may_stand_apart(self, child: Tracee, creator: Tracee, entry: EnteredCall | None) -> bool:
        # A child is in its creator's namespaces and cgroup by rule (kernel/fork.c: copy_process), unless its call or
        # an unshare or setns before it says otherwise. Reading all of that costs more than a fork.
        if self._level is Observe.FULL and Pid(child.tid) == child.group.tgid:
            return True
        if self._level in (Observe.NONE, Observe.KCMP):
            return False
        pending = creator.parted or creator.time_pending
        return pending or entry is None or bool(entry.flags & APART)


class Told(Struct, eq=False):
    """A creation that was looked at, and is to be written."""

    pairs: HeldPairs
    creation: CreationInFlight
    creator: Tracee
    child: Tracee
    apart: Unavailable | None
    pair: observe.Pair | None
    standing: ev.Standing | Unavailable | None

    @property
    def tasks(self) -> Iterable[Tracee]:
        """The two."""
        return self.creator, self.child

    def run(self) -> None:
        """Write it."""
        self.pairs.write(self)
