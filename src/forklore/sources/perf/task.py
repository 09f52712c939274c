"""What the engine remembers of a task while it lives."""

from __future__ import annotations

from msgspec import Struct

from forklore.abi.units import TaskId, Tid
from forklore.sources.task_table import TaskTable, ThreadGroup


class Executing(Struct):
    """An exec whose records have not all come."""

    comm: bytes
    former: Tid | None = None
    exe: bytes | None = None
    """The executable's path; None: no code of a file is mapped yet."""
    path: bytes | None = None
    """As it was given."""


class Seen(Struct, eq=False):
    """One live task. ``tid`` changes when a thread that is not the leader executes."""

    id: TaskId
    tid: Tid
    group: Group
    depth: int
    creator: tuple[TaskId, Tid] | None = None
    comm: bytes | None = None
    alive: bool = True
    ended: bool = False
    """It has ended and is its group's leader: it is a zombie until the others have ended too."""
    executing: Executing | None = None
    unseen: bool = False
    """The kernel tells nothing more of it, though it may live."""
    begun: int = 0
    """When it was found to be there already, by CLOCK_MONOTONIC; 0: it was seen to be made."""
    missing: int = 0
    """At how many looks it was not there, since it is unseen."""
    waiter: Seen | None = None
    """Who waits for it to give back the memory (CLONE_VFORK)."""


Group = ThreadGroup[Seen]


class Family(TaskTable[Seen]):
    """Every task that is followed now."""

    def __init__(self) -> None:
        super().__init__(Seen)
