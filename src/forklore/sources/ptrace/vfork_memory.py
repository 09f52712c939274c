"""What a child with CLONE_VM changes in its creator's memory: a vfork child, which borrows it, or one that shares it.

The creator of the latter runs on, so that each change can be its own; only that nothing changed is proved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from msgspec import Struct

from forklore.abi.flags import CLONE_THREAD, CLONE_VFORK, CLONE_VM
from forklore.abi.units import Address, TaskId, Tid, Unavailable
from forklore.decode.creation import decode_creation
from forklore.events import records as ev
from forklore.linux.mappings import Mapping
from forklore.linux.pages import vfork_memory
from forklore.linux.tracing import ptrace
from forklore.sources.outbox import Outbox
from forklore.sources.ptrace.observer import Observer
from forklore.sources.ptrace.tracee import EnteredCall, Noted, Tracee
from forklore.sources.stacks.code import CodeSpace
from forklore.sources.stacks.variables import Frames, Near

Where = Callable[[Tracee, int], Noted]
"""Reads the call stack of a task that is held."""
Names = Callable[[Tid, CodeSpace, Frames, Sequence[vfork_memory.MemoryChange], Near], list[list[ev.Variable]]]
"""Finds the variables that were changed."""

_KEPT: Final = 4
"""How many times the memory that is kept for one creator is kept for all at once."""
_LENT: Final = CLONE_VM | CLONE_VFORK
_CREATOR_ENDED: Final = "its creator, in whose memory it ran on, ended first"


class _Lent(Struct, frozen=True):
    """Memory that a child has in common with its creator: whose it is, the child, how it was, the creator's stack."""

    creator: Tracee
    child: TaskId
    before: vfork_memory.Before | Unavailable
    entry: EnteredCall | None
    """The creator's call, where it stays in it: its frames are where they were."""


class VforkMemory(Observer):
    """Keeps a copy of the memory while it is lent, and compares when the creator is to go on."""

    holds_creations = True

    def __init__(self, out: Outbox, names: Names | None, where: Where | None = None) -> None:
        self._out = out
        self._names = names
        self._where = where
        self._stacks: dict[TaskId, Noted] = {}
        """Of vfork children that are about to end, until their creators go on."""
        self._lent: dict[TaskId, _Lent] = {}
        """By creator, of vfork children."""
        self._shared: dict[TaskId, _Lent] = {}
        """By child, of the others."""

    def created(self, creator: Tracee, child: Tracee, entry: EnteredCall, t: int) -> None:
        """Copy what is lent."""
        if entry.flags & _LENT == _LENT:
            self._lent[creator.id] = _Lent(creator, child.id, self._keep(creator, entry), entry)
        elif entry.flags & CLONE_VM and not entry.flags & CLONE_THREAD:
            # Which locals are where it can find them, the creator alone knows when it runs.
            self._shared[child.id] = _Lent(creator, child.id, self._keep(creator, entry), None)

    def executed(self, task: Tracee, t: int) -> None:
        """A child that shared its creator's memory has one of its own."""
        self._told(self._shared.pop(task.id, None), t, ran_on=True)

    def exiting(self, task: Tracee, t: int) -> None:
        """Where a vfork child is that ends without an exec: in the memory that it borrows."""
        lent = None if task.creator is None else self._lent.get(task.creator[0])
        if self._where is not None and lent is not None and lent.child == task.id:
            self._stacks[task.id] = self._where(task, t)

    def ended(self, task: Tracee, t: int) -> None:
        """Its memory is gone, but for a child that shared its creator's."""
        self._lent.pop(task.id, None)
        self._told(self._shared.pop(task.id, None), t, ran_on=True)

    def vfork_done(self, creator: Tracee, t: int) -> None:
        """Compare what is given back."""
        self._told(self._lent.pop(creator.id, None), t, ran_on=False)

    def _told(self, found: _Lent | None, t: int, *, ran_on: bool) -> None:
        if found is None:
            return
        creator, before = found.creator, found.before
        space = creator.space
        now: vfork_memory.Writes | Unavailable
        if not creator.alive:
            now = Unavailable(0, _CREATOR_ENDED)
        else:
            now = before if isinstance(before, Unavailable) else vfork_memory.written(creator.tid, before)
        stack = self._stacks.pop(found.child, None)
        # Debug information is read when nobody is held; what the variables hold now is kept until then.
        named = space is not None and self._names is not None
        near = Near(creator.tid, now.changes if named and isinstance(now, vfork_memory.Writes) else ())
        self._out.later(
            partial(self._tell, t, found, now, None if space is None else space.copy(), near, stack, ran_on=ran_on),
            held=partial(self._tell, t, found, now, None, near, stack, ran_on=ran_on),
        )

    def _tell(
        self, t: int, found: _Lent, now: vfork_memory.Writes | Unavailable, space: CodeSpace | None, near: Near,
        stack: Noted | None, *, ran_on: bool,
    ) -> None:  # fmt: skip
        names: list[list[ev.Variable]] = []
        if self._names is not None and space is not None and isinstance(now, vfork_memory.Writes):
            frames = () if found.entry is None else found.entry.frames
            names = self._names(found.creator.tid, space, frames, now.changes, near)
        number = None if stack is None else stack.stack
        self._out(_borrowed(t, found.child, found.creator.id, now, number, names, ran_on=ran_on))

    def _keep(self, creator: Tracee, entry: EnteredCall) -> vfork_memory.Before | Unavailable:
        for number in [number for number, lent in self._lent.items() if not lent.creator.alive]:
            del self._lent[number]
        every = (lent.before for lent in (*self._lent.values(), *self._shared.values()) if lent.creator.alive)
        kept = sum(before.size for before in every if isinstance(before, vfork_memory.Before))
        try:
            registers = ptrace.registers(creator.tid)
        except OSError as problem:
            return Unavailable(problem.errno or 0, f"{problem.filename}: {problem.strerror}")
        made = decode_creation(entry.arch, entry.nr, entry.words, entry.struct, entry.set_tid)
        return vfork_memory.capture(
            creator.tid, Address(registers[registers.layout.sp]), stack=made.stack, stack_size=made.stack_size or 0,
            limit=min(vfork_memory.LIMIT, max(0, _KEPT * vfork_memory.LIMIT - kept)),
        )  # fmt: skip


def _borrowed(
    t: int, child: TaskId, creator: TaskId, found: vfork_memory.Writes | Unavailable, stack: int | None,
    names: Sequence[list[ev.Variable]], *, ran_on: bool,
) -> ev.Borrowed:  # fmt: skip
    if isinstance(found, Unavailable):
        return ev.Borrowed(t=t, task=child, creator=creator, changes=found, stack=stack, ran_on=ran_on)
    return ev.Borrowed(
        t=t,
        task=child,
        creator=creator,
        changes=[
            ev.Written(
                each.start, each.length, each.where.value, ev.text(each.mapping.path), each.old.hex(), each.new.hex(),
                names[index] if names else [],
            )
            for index, each in enumerate(found.changes)
        ],
        more=found.more,
        remaps=[
            ev.Remapped(each.start, each.end, _line(each.before), _line(each.after)) for each in found.remaps
        ],
        left_out=[
            ev.NotCompared(each.mapping.start, each.size, ev.text(each.mapping.path), each.why)
            for each in found.left_out
        ],
        threads=found.threads,
        stack=stack,
        ran_on=ran_on,
    )


def _line(mapping: Mapping | None) -> ev.Text | None:
    return None if mapping is None else ev.text(f"{mapping.permissions} ".encode() + mapping.path)
