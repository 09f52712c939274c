"""The part that is about memory: pages in common, what a vfork child changed, and whom it held."""

from __future__ import annotations

from msgspec import Struct

from forklore.events import records as ev
from forklore.export.json_tree.parts import TaskNumber, Time, UnavailableObject, unavailable
from forklore.model.vfork_holds import Ending, Held


class CowObject(Struct, frozen=True, gc=False):
    """Counts are of pages; how they come about is told in [cow](cow.md)."""

    t: Time
    """when it was measured; for an exec, when that was done: it was measured when execve was called"""
    creator: TaskNumber
    """with whom"""
    moment: str
    """``created``; ``exec`` or ``exit``, for what became of the common pages"""
    side: TaskNumber | None
    """which of the two executed or ended"""
    source: str | None
    """``pagemap``, page by page, or ``smaps``: an estimate"""
    exact: bool
    """every page was looked at, and none is part of a huge page or swapped out"""
    page_size: ev.Count
    """bytes"""
    common: ev.Count
    """pages in common at creation"""
    still: ev.Count
    """of these, not copied by anybody"""
    parted: ev.Count
    """no longer in common"""
    swapped: ev.Count
    """swapped out"""
    gone: ev.Count
    """not there any more"""
    copied: ev.Count | UnavailableObject | None
    """of the parted, by ``side``; the rest by the other one"""
    told_by: str | None
    """how that is known: ``frames``, or ``contents``"""
    unknown: UnavailableObject | None
    """why nothing could be measured"""

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
    """the thread that waited"""
    since: Time
    """when the wait began"""
    until: Time
    """when it ended; null: not seen"""
    ended_by: Ending | None
    """``exec``, ``exit``, ``death`` (the child was killed) or ``creator`` (it ended itself); null: not known"""
    borrows_memory: bool
    """the child ran in its creator's memory; false: in a copy"""
    ran_on: tuple[TaskNumber, ...] | None
    """the other tasks of that process which ran meanwhile; null: not known"""

    @classmethod
    def of(cls, held: Held) -> VforkObject:
        """What the model found."""
        return cls(held.thread, held.since, held.until, held.ended_by, held.borrows, held.ran_on)


class BorrowedObject(Struct, frozen=True):
    """What a vfork child changed in its creator's memory."""

    t: Time
    """when the memory was given back and compared"""
    creator: TaskNumber
    """whose memory it is"""
    changes: list[ev.Written] | UnavailableObject
    """what changed, by address"""
    more: ev.Count
    """how many more ranges changed"""
    remaps: list[ev.Remapped]
    """addresses that were mapped otherwise afterwards"""
    left_out: list[ev.NotCompared]
    """what was not compared"""
    threads: int | None
    """threads of the creator's process; with more than one, each change can be another thread's"""

    @classmethod
    def of(cls, record: ev.Borrowed) -> BorrowedObject:
        """A comparison of a trace."""
        changes = record.changes
        told = unavailable(changes) if isinstance(changes, ev.Absent) else changes
        return cls(record.t, record.creator, told, record.more, record.remaps, record.left_out, record.threads)
