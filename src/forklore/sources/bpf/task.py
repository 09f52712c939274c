"""What the engine remembers of a task while it lives, and of its thread group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from forklore.abi.units import TaskId, Tid, Unavailable
from forklore.sources.bpf.raw import Exit, Objects
from forklore.sources.bpf.raw import Signal as RawSignal
from forklore.sources.task_table import TaskTable
from forklore.sources.task_table import ThreadGroup as AnyGroup

if TYPE_CHECKING:
    from forklore.events import records as ev


class Pending(Struct):
    """An exec that a task is in: what it was called with, as far as that has come."""

    t: int
    path: bytes | Unavailable | None = None
    at: ev.ExecAt | None = None
    argc: int | None = None
    argv: bytearray = field(default_factory=bytearray)
    envp: bytearray = field(default_factory=bytearray)
    error: int = 0
    whole: bool = False
    """All of the arguments have come."""


class Followed(Struct, eq=False):
    """One live task. ``tid`` changes when a thread that is not the leader executes."""

    id: TaskId
    tid: Tid
    group: Group
    depth: int
    creator: tuple[TaskId, Tid] | None = None
    comm: bytes | None = None
    alive: bool = True
    keep: bool = True
    """False: it is not to be followed, and nothing of it is told."""
    key: int = 0
    """The programs' own number of it."""
    objects: Objects = ()
    """What it held when it was last looked at; empty: not known."""
    shares: dict[int, set[Followed]] = {}
    """What it holds together with others, by the index in COMPARED."""
    namespaces: dict[str, int] = {}
    waiter: Followed | None = None
    """Who waits for it to give back the memory (CLONE_VFORK)."""
    executing: Pending | None = None
    ended: Exit | None = None
    """It has ended and is its group's leader: it is a zombie until the others have ended too."""
    signals: dict[int, RawSignal] = {}
    """The last of each signal that was sent to it alone."""


Group = AnyGroup[Followed]


class Family(TaskTable[Followed]):
    """Every task that is followed now, by tid and by the programs' number."""

    def __init__(self) -> None:
        super().__init__(Followed)
        self.by_key: dict[int, Followed] = {}
        self.signals: dict[Group, dict[int, RawSignal]] = {}
        """The last of each signal that was sent to a whole process."""

    def enter(self, task: Followed, key: int) -> Followed:
        """A task is known by ``key`` from now on."""
        task.key = key
        self.by_key[key] = task
        return task

    def forget(self, task: Followed) -> bool:
        """A task ended. Whether its group did."""
        self.by_key.pop(task.key, None)
        if self.live.get(task.tid) is not task:  # its tid is another one's by now: its end was lost
            task.alive = False
            task.group.tasks.discard(task)
            return False
        over = super().forget(task)
        if over:
            self.signals.pop(task.group, None)
        return over
