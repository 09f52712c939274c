"""The part that is about memory: pages in common, what a vfork child changed, and whom it held."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from forklore.abi.units import Unavailable
from forklore.events import records as ev
from forklore.export.json_tree.parts import TaskNumber, Time, UnavailableObject, unavailable
from forklore.model.vfork_holds import Ending, VforkHold


class CowObject(Struct, frozen=True, gc=False):
    """Counts are of pages; how they come about is told in [cow](cow.md)."""

    t: Time
    """When it was measured; for an exec, when that was done: it was measured when execve was called."""
    creator: TaskNumber
    """With whom."""
    moment: ev.CowMoment
    """``created``; ``exec`` or ``exit``, for what became of the common pages."""
    side: TaskNumber | None
    """Which of the two executed or ended."""
    source: Literal["pagemap", "smaps"] | None
    """``pagemap``, page by page, or ``smaps``: an estimate."""
    exact: bool
    """Every page was looked at, and none is part of a huge page or swapped out."""
    page_size: ev.Count
    """Bytes."""
    common: ev.Count
    """Pages in common at creation."""
    still: ev.Count
    """Of these, not copied by anybody."""
    parted: ev.Count
    """No longer in common."""
    swapped: ev.Count
    """Swapped out."""
    gone: ev.Count
    """Not there any more."""
    copied: ev.Count | UnavailableObject | None
    """Of the parted, by ``side``; the rest by the other one."""
    told_by: ev.CowToldBy | None
    """How that is known: ``frames``, or ``contents``."""
    unknown: UnavailableObject | None
    """Why nothing could be measured."""

    @classmethod
    def of(cls, record: ev.Cow) -> CowObject:
        """A measurement of a trace."""
        copied = record.copied
        return cls(
            t=record.t,
            creator=record.creator,
            moment=record.moment,
            side=record.side,
            source=record.source,
            exact=record.exact,
            page_size=record.page_size,
            common=record.common,
            still=record.still,
            parted=record.parted,
            swapped=record.swapped,
            gone=record.gone,
            copied=copied if copied is None or isinstance(copied, int) else unavailable(copied),
            told_by=record.told_by,
            unknown=None if record.unknown is None else unavailable(record.unknown),
        )


class VforkObject(Struct, frozen=True):
    """What a CLONE_VFORK child did to its creator."""

    held: TaskNumber
    """The thread that waited."""
    since: Time
    """When the wait began."""
    until: Time
    """When it ended; null: not seen."""
    ended_by: Ending | None
    """``exec``, ``exit``, ``death`` (the child was killed) or ``creator`` (it ended itself); null: not known."""
    borrows_memory: bool
    """The child ran in its creator's memory; false: in a copy."""
    ran_on: tuple[TaskNumber, ...] | None
    """The other tasks of that process which ran meanwhile, the first 32 of them; null: not known."""
    ran_on_more: ev.Count
    """How many more did."""

    @classmethod
    def of(cls, held: VforkHold) -> VforkObject:
        """What the model found."""
        return cls(held.thread, held.since, held.until, held.ended_by, held.borrows, held.ran_on, held.more)


class BorrowedObject(Struct, frozen=True):
    """What a child with CLONE_VM that is no thread changed in its creator's memory."""

    t: Time
    """When the memory was given back and compared."""
    creator: TaskNumber
    """Whose memory it is."""
    changes: list[ev.Written] | UnavailableObject
    """What changed, by address."""
    more: ev.Count
    """How many more ranges changed."""
    remaps: list[ev.Remapped]
    """Addresses that were mapped otherwise afterwards."""
    left_out: list[ev.NotCompared]
    """What was not compared."""
    threads: int | None
    """Threads of the creator's process; with more than one, each change can be another thread's."""
    ran_on: bool
    """The creator itself ran meanwhile (no CLONE_VFORK): each change can be its own. That nothing changed is sure."""

    @classmethod
    def of(cls, record: ev.Borrowed) -> BorrowedObject:
        """A comparison of a trace."""
        changes = record.changes
        told = unavailable(changes) if isinstance(changes, Unavailable) else changes
        r = record
        return cls(r.t, r.creator, told, r.more, r.remaps, r.left_out, r.threads, r.ran_on)
