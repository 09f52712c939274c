"""The part that is about descriptors."""

from __future__ import annotations

from msgspec import Struct

from forklore.abi.errors import errno_name
from forklore.abi.units import Unavailable
from forklore.events import records as ev
from forklore.export.json_tree.parts import TaskNumber, Time, UnavailableObject, Word, unavailable, word


class DescriptorsObject(Struct, frozen=True):
    """What a task held right after an exec."""

    t: Time
    """Of the exec event, before the new image has run."""
    table: list[HeldObject] | UnavailableObject
    """What survived the exec."""
    left_out: ev.Count
    """How many more there are."""
    creator: TaskNumber | None
    """Who it was compared with; null where that task was gone or outside the trace."""
    creators_pipes: list[HeldObject]
    """The creator's ends of pipes at that moment, where the task holds a pipe."""

    @classmethod
    def of(cls, record: ev.Descriptors) -> DescriptorsObject:
        """One of a task's tables."""
        table = record.table
        return cls(
            t=record.t,
            table=unavailable(table) if isinstance(table, Unavailable) else [HeldObject.of(held) for held in table],
            left_out=record.left_out,
            creator=record.creator,
            creators_pipes=[HeldObject.of(held) for held in record.creators_pipes],
        )


class HeldObject(Struct, frozen=True, gc=False):
    """A descriptor."""

    fd: ev.Count
    """The descriptor."""
    kind: str
    """``file``, ``directory``, ``pipe``, ``fifo``, ``socket``, ``tty``, ``device``, ``memfd``, ``eventfd``, ``epoll``,
    ``pidfd``, …"""
    target: ev.Text
    """As /proc names it."""
    flags: int | None
    """Status flags and access mode of open(2), without O_CLOEXEC."""
    position: Word | None
    """The offset of the open file description."""
    device: Word
    """With ``inode``: which file, pipe or socket; 0 for what has no name in a file system."""
    inode: Word | None
    """Equal for both ends of a pipe."""
    cloexec: bool | None
    """Only in ``creators_pipes``."""
    creators: bool | None
    """Whether it is the open file description that the creator has at the same number; null: not asked (0, 1, 2)."""
    creators_error: str | None
    """Why that is not known; ``EBADF``: the creator has nothing open at that number now."""
    creators_cloexec: bool | None
    """Whether the creator's descriptor of that number is close-on-exec."""

    @classmethod
    def of(cls, held: ev.Held) -> HeldObject:
        """An entry of a table."""
        same = held.same
        failed = same is not None and same < 0
        return cls(
            fd=held.fd,
            kind=held.kind,
            target=held.target,
            flags=held.flags,
            position=word(held.position),
            device=word(held.device),
            inode=word(held.inode),
            cloexec=held.cloexec,
            creators=None if same is None or failed else same == 0,
            creators_error=errno_name(-same) if same is not None and failed else None,
            creators_cloexec=held.creators_cloexec,
        )
