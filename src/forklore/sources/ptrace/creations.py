"""Creations in flight: each a record with a state, found by its creator and by its child's tid.

::

    ENTERED ──────── the creator's event ───────→ ANNOUNCED ── the child's first status ──→ told
       │  └─ the call returned: over                  │
       └─ the creator is gone: CREATOR_GONE           └─ the creator is gone: told, CHILD_AWAITED
    UNANNOUNCED ──── the creator's event, or none that can come any more ───────────────→ told

The kernel wakes the child before the creator reports it (kernel/fork.c: kernel_clone), so the child's first stop may
come first: then the two records, one by its creator and one by its tid, become one when the event comes. After a vfork
the record stays with its creator, which goes on when the child lets go of the memory: BORROWED.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

from msgspec import Struct

from forklore.abi.units import TaskId, Tid
from forklore.events import records as ev
from forklore.linux.tracing.wait import WaitStatus
from forklore.sources.ptrace.tracee import EnteredCall, Tracee


class State(Enum):
    """Of a creation."""

    ENTERED = auto()
    """The creator was seen to enter the call, and not yet to leave it."""
    UNANNOUNCED = auto()
    """The child has a status, and no creator has told of it."""
    ANNOUNCED = auto()
    """The creator's event has come: it is held until the child has its first status."""
    CHILD_AWAITED = auto()
    """The same without a creator that is held: it ended, or went on by itself. The creation is told."""
    CREATOR_GONE = auto()
    """The creator ended in the call: it may have made a child that nobody announces."""
    BORROWED = auto()
    """Told; the creator sleeps until its vfork child has executed or ended."""
    OVER = auto()


class CreationInFlight(Struct, eq=False):
    """One call that makes a task."""

    state: State
    creator: Tracee | None = None
    """None: not known, or not yet."""
    entry: EnteredCall | None = None
    """The call, as far as it could be read."""
    child: Tracee | None = None
    t: int = 0
    """When the creator's event came."""
    stop: ev.CreateStop | None = None
    """Which event it was; None: it came by none."""
    status: WaitStatus | None = None
    """Of a child that is not announced: its last status."""
    asked: dict[Tracee, bool] | None = None
    """Of a child that is not announced: who was asked to stop, because it may announce it, and whether it has since."""


class Creations:
    """All of them. Each method is what was seen of one; an order that no kernel has is an AssertionError."""

    def __init__(self, *, adopts: bool) -> None:
        """``adopts``: this process is a reaper of orphans."""
        self.by_creator: dict[Tracee, CreationInFlight] = {}
        """ENTERED, ANNOUNCED, BORROWED."""
        self.awaited: dict[Tid, CreationInFlight] = {}
        """By the tid of a child without a status: ANNOUNCED, CHILD_AWAITED."""
        self.unannounced: dict[Tid, CreationInFlight] = {}
        """By the tid of a child with one: UNANNOUNCED."""
        self._left: list[CreationInFlight] = []
        """CREATOR_GONE, in the order in which they ended."""
        self._ended: set[Tid] | None = set() if adopts else None
        """Whose end was seen, for a reaper: one whose parent dies before it waits for it is the reaper's own child
        then, and its status comes once more."""

    # What is seen of a creator

    def entered(self, creator: Tracee, entry: EnteredCall) -> None:
        """It is about to make the call."""
        assert creator not in self.by_creator, f"{creator.tid} enters a call while it is in one"
        self.by_creator[creator] = CreationInFlight(State.ENTERED, creator, entry)

    def returned(self, creator: Tracee) -> None:
        """It left the call without an event: the call failed, will be entered again, or kept its event back."""
        creation = self.by_creator.pop(creator)
        assert creation.state is State.ENTERED, f"{creator.tid} returns from a call in state {creation.state.name}"
        creation.state = State.OVER

    def announced(
        self, creator: Tracee, child: Tracee, entry: EnteredCall | None, t: int, stop: ev.CreateStop
    ) -> WaitStatus | None:
        """Its event tells of ``child``; what the child's status is, if it has one."""
        creation = self.by_creator.get(creator)
        if creation is None:
            creation = self.by_creator[creator] = CreationInFlight(State.ENTERED, creator)
        assert creation.state is State.ENTERED, f"{creator.tid} announces a child in state {creation.state.name}"
        creation.state, creation.entry, creation.child = State.ANNOUNCED, entry, child
        creation.t, creation.stop = t, stop
        return self._awaits(creation, child.tid)

    def attached_without_event(self, child: Tracee, t: int) -> WaitStatus | None:
        """A call that kept its event back returned: its child is traced all the same, and is told of already."""
        creation = CreationInFlight(State.CHILD_AWAITED, child=child, t=t)
        return self._awaits(creation, child.tid)

    def _awaits(self, creation: CreationInFlight, tid: Tid) -> WaitStatus | None:
        assert tid not in self.awaited, f"{tid} is announced twice"
        early = self.unannounced.pop(tid, None)
        self.awaited[tid] = creation
        if self._ended:
            self._ended.discard(tid)  # a number used again
        if early is None:
            return None
        assert early.state is State.UNANNOUNCED
        early.state = State.OVER
        return early.status

    def vfork_done(self, creator: Tracee) -> TaskId | None:
        """Its child has let go of the memory: which child, if that is known."""
        creation = self.by_creator.get(creator)
        if creation is None or creation.state is not State.BORROWED:
            return None  # a call that was not seen, or that kept its first event back and is left with its result
        del self.by_creator[creator]
        creation.state = State.OVER
        return None if creation.child is None else creation.child.id

    def creator_ends(self, creator: Tracee) -> None:
        """It is at its last stop, and tells of no child any more. Its end may be long in coming: that of a leader waits
        for all threads of its process, a child of this very call among them."""
        if self.is_in_call(creator):
            self.creator_gone(creator)

    def creator_gone(self, creator: Tracee) -> CreationInFlight | None:
        """It ended, or was let go: a creation that is to be told of now, because nobody will be held with its child."""
        creation = self.by_creator.pop(creator, None)
        if creation is None:
            return None
        if creation.state is State.ANNOUNCED:
            creation.state = State.CHILD_AWAITED
            return creation
        if creation.state is State.ENTERED:
            creation.state = State.CREATOR_GONE
            self._left.append(creation)
        else:
            assert creation.state is State.BORROWED
            creation.state = State.OVER
        return None

    # What is seen of a child

    def first_status(self, tid: Tid) -> CreationInFlight | None:
        """A child that was announced has its first status: the creation that made it, told or to be told of now."""
        creation = self.awaited.pop(tid, None)
        if creation is not None and creation.state is State.CHILD_AWAITED:
            creation.state = State.OVER
        return creation

    def told(self, creation: CreationInFlight) -> None:
        """Creator and child were both held and looked at: the creator may go on."""
        assert creation.state is State.ANNOUNCED
        assert creation.creator is not None
        if creation.stop == "vfork":
            creation.state = State.BORROWED
        else:
            creation.state = State.OVER
            del self.by_creator[creation.creator]

    def stopped_unannounced(self, tid: Tid, status: WaitStatus) -> None:
        """A status of a task that nobody told of."""
        creation = self.unannounced.setdefault(tid, CreationInFlight(State.UNANNOUNCED))
        creation.status = status

    def adopted(self, tid: Tid, maker: CreationInFlight | None) -> WaitStatus:
        """Nobody will tell of a child that has this status; ``maker``: one of :attr:`left` that made it."""
        creation = self.unannounced.pop(tid)
        assert creation.state is State.UNANNOUNCED
        assert creation.status is not None
        creation.state = State.OVER
        if maker is not None and maker.state is State.CREATOR_GONE:
            self._left.remove(maker)
            maker.state = State.OVER
        return creation.status

    def ended(self, tid: Tid) -> None:
        """A task ended, and its status was taken."""
        if self._ended is not None:
            self._ended.add(tid)

    def is_second_end(self, tid: Tid) -> bool:
        """Whether the end of a task that is not there is one that was seen before. It comes no third time."""
        if not self._ended or tid not in self._ended:
            return False
        self._ended.discard(tid)
        return True

    # Questions

    @property
    def left(self) -> list[CreationInFlight]:
        """Calls whose creator ended in them, in that order."""
        return self._left

    def is_anyone_creating(self) -> bool:
        """Whether a task was seen to enter a call and not yet to tell what came of it."""
        return any(creation.state is State.ENTERED for creation in self.by_creator.values())

    def has_announced(self, creator: Tracee) -> bool:
        """Whether a task is in a call whose child it has told of."""
        creation = self.by_creator.get(creator)
        return creation is not None and creation.state is not State.ENTERED

    def is_in_call(self, creator: Tracee) -> bool:
        """Whether a task was seen to enter a call, and neither an event nor a result has come."""
        creation = self.by_creator.get(creator)
        return creation is not None and creation.state is State.ENTERED

    @property
    def in_flight(self) -> bool:
        """Whether somebody is held for another, or will be in a moment."""
        return bool(self.unannounced) or self.is_anyone_creating() or next(self.held(), None) is not None

    def held(self) -> Iterator[CreationInFlight]:
        """Those whose creator is held."""
        return (creation for creation in list(self.awaited.values()) if creation.state is State.ANNOUNCED)
