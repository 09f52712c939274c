"""Copy-on-write: pages that forked children have in common with their creators, and who copied them.

A pair is looked at when the child is made, and again just before the first of the two gives up its memory: afterwards
the other one maps the pages alone, and nothing can be told. Both sides are processes, so threads stand for their group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from forklore.abi.flags import CLONE_VM
from forklore.abi.units import Pid, TaskId, Unavailable
from forklore.events import records as ev
from forklore.linux.memory import PAGE_SIZE
from forklore.linux.pages import contents, cow
from forklore.sources.ptrace.observer import Observer
from forklore.sources.ptrace.tracee import EnteredCall, Group, Tracee

_UNSEEN: Final = Unavailable(0, "its execve was not seen before it was done, which takes --stops seccomp or syscalls")
_KILLED: Final = Unavailable(0, "it was killed before its memory could be looked at")


class _Pair(Struct, eq=False):
    child: Tracee
    creator: Tracee
    base: cow.Common
    sums: contents.Checksums | Unavailable | None
    """What the pages held, where frame numbers are not shown."""


class Copies(Observer):
    """The pairs whose both sides still have the memory of the creation."""

    holds_creations = True

    def __init__(self, emit: Callable[[ev.Event], None]) -> None:
        self._emit = emit
        self._pairs: dict[Group, list[_Pair]] = {}
        """Each pair under both of its groups."""
        self._measured: dict[TaskId, list[tuple[_Pair, ev.Cow]]] = {}
        """By a task that is in execve."""
        self._exiting: set[Tracee] = set()

    def created(self, creator: Tracee, child: Tracee, entry: EnteredCall, t: int) -> None:
        """Both are held, and the child has not run."""
        if entry.flags & CLONE_VM:
            return
        mine, its = cow.snapshot(child.tid), cow.snapshot(creator.tid)
        if isinstance(mine, Unavailable) or isinstance(its, Unavailable):
            missing = mine if isinstance(mine, Unavailable) else its
            assert isinstance(missing, Unavailable)
            self._emit(ev.Cow(t=t, task=child.id, creator=creator.id, moment="created", unknown=missing))
            return
        base = cow.common(mine, its)
        self._emit(
            ev.Cow(
                t=t, task=child.id, creator=creator.id, moment="created", source=base.source.value, exact=base.exact,
                page_size=PAGE_SIZE, common=base.pages,
            )
        )  # fmt: skip
        if not child.keep:
            return  # nobody would tell when its memory goes
        framed = base.source is cow.CountSource.PAGEMAP and base.same_frames
        pair = _Pair(child, creator, base, None if framed else contents.checksums(child.tid, base))
        for side in (child, creator):
            self._pairs.setdefault(side.group, []).append(pair)

    def executing(self, task: Tracee) -> None:
        """At the entry of execve, which may fail."""
        pairs = self._pairs.get(task.group)
        if pairs:
            self._measured[task.id] = self._measure(task, pairs, "exec", task.entry.t if task.entry else 0)

    def executed(self, task: Tracee, t: int) -> None:
        """The memory of its group is gone, by an exec that worked."""
        measured = {id(pair): record for pair, record in self._measured.pop(task.id, ())}
        for pair in list(self._pairs.get(task.group, ())):
            self._close(pair, measured.get(id(pair)) or _unknown(pair, task, "exec", t, _UNSEEN))

    def exiting(self, task: Tracee, t: int) -> None:
        """At PTRACE_EVENT_EXIT; the memory goes with the last task of the group."""
        pairs = self._pairs.get(task.group)
        if not pairs:
            return
        self._exiting.add(task)
        if task.group.tasks <= self._exiting:
            for pair, record in self._measure(task, list(pairs), "exit", t):
                self._close(pair, record)

    def ended(self, task: Tracee, t: int) -> None:
        """Its exit status has come. The leader's is the last one of its group."""
        self._exiting.discard(task)
        self._measured.pop(task.id, None)
        if Pid(task.tid) == task.group.tgid:
            for pair in list(self._pairs.get(task.group, ())):
                self._close(pair, _unknown(pair, task, "exit", t, _KILLED))

    def _close(self, pair: _Pair, record: ev.Cow) -> None:
        self._emit(record)
        for side in (pair.child, pair.creator):
            left = self._pairs.get(side.group, [])
            left.remove(pair)
            if not left:
                self._pairs.pop(side.group, None)

    @staticmethod
    def _measure(task: Tracee, pairs: list[_Pair], moment: ev.CowMoment, t: int) -> list[tuple[_Pair, ev.Cow]]:
        now = cow.snapshot(task.tid)
        if isinstance(now, Unavailable):
            return [(pair, _unknown(pair, task, moment, t, now)) for pair in pairs]
        return [(pair, _record(pair, task, now, moment, t)) for pair in pairs]


def _side(pair: _Pair, task: Tracee) -> TaskId:
    return pair.child.id if task.group is pair.child.group else pair.creator.id


def _unknown(pair: _Pair, task: Tracee, moment: ev.CowMoment, t: int, why: Unavailable) -> ev.Cow:
    return ev.Cow(
        t=t, task=pair.child.id, creator=pair.creator.id, moment=moment, side=_side(pair, task), unknown=why,
        page_size=PAGE_SIZE, common=pair.base.pages,
    )  # fmt: skip


def _record(pair: _Pair, task: Tracee, now: cow.CowSnapshot, moment: ev.CowMoment, t: int) -> ev.Cow:
    change = cow.compare(pair.base, now)
    copied = change.copied
    told_by: ev.CowToldBy = "frames"
    if isinstance(copied, Unavailable) and pair.sums is not None:
        told_by = "contents"
        sums = pair.sums
        copied = sums if isinstance(sums, Unavailable) else contents.changed(task.tid, sums, now)
    unknown = isinstance(copied, Unavailable)
    return ev.Cow(
        t=t, task=pair.child.id, creator=pair.creator.id, moment=moment, side=_side(pair, task),
        source=change.source.value, exact=change.exact, page_size=PAGE_SIZE, common=pair.base.pages,
        still=change.still, parted=change.parted, swapped=change.swapped, gone=change.gone,
        copied=copied, told_by=None if unknown else told_by,
    )  # fmt: skip
