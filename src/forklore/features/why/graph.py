"""The graph of waits: what was seen of tasks, of what each waits for, and of who could end that."""

from __future__ import annotations

from enum import StrEnum, auto
from typing import Final

import msgspec
from msgspec import Struct

from forklore.abi.units import Fd, Nanoseconds, Pid, Tid, Unavailable


class WaitKind(StrEnum):
    """What a task waits for."""

    READ = auto()
    """Data or their end, of a pipe, a socket, a terminal, …"""
    WRITE = auto()
    OPEN = auto()
    CONNECTION = auto()
    """accept: a client."""
    CONNECT = auto()
    EVENTS = auto()
    """poll, select, epoll."""
    MUTEX = auto()
    RWLOCK = auto()
    JOIN = auto()
    SEMAPHORE = auto()
    CONDITION = auto()
    FUTEX = auto()
    CHILD = auto()
    VFORK = auto()
    PROCESS = auto()
    """A pidfd."""
    FILE_LOCK = auto()
    SYSV = auto()
    """A SysV semaphore or queue."""
    QUEUE = auto()
    """A POSIX queue."""
    SIGNAL = auto()
    TIME = auto()
    INPUT = auto()
    """Somebody at a terminal."""
    STOPPED = auto()
    TRACED = auto()
    """Held by its tracer."""
    FROZEN = auto()
    KERNEL = auto()
    """Something that the kernel does by itself, deaf to signals."""
    REAPED = auto()
    """A zombie, which waits to be waited for."""
    NOTHING = auto()
    """It runs."""
    UNKNOWN = auto()


LOCKS: Final = frozenset({WaitKind.MUTEX, WaitKind.RWLOCK})


class Role(StrEnum):
    """How somebody could end a wait."""

    WRITER = auto()
    """Holds the end that is written to."""
    READER = auto()
    PEER = auto()
    """Holds the other end of a connection."""
    LISTENER = auto()
    """Has the socket on which a connection waits to be accepted."""
    OWNER = auto()
    """Has the lock."""
    THREAD = auto()
    """Is the thread that is joined."""
    CHILD = auto()
    TRACEE = auto()
    VFORK_CHILD = auto()
    PROCESS = auto()
    """Is the process that a pidfd is of."""
    LOCK_HOLDER = auto()
    LEASE_HOLDER = auto()
    TRACER = auto()
    PARENT = auto()
    """Should wait for a zombie."""
    SIBLING = auto()
    """Shares the memory that the awaited word lies in."""
    CREATOR = auto()
    """Is of the process that the memory is a copy of: it can end nothing here."""
    LAST = auto()
    """Was the last to change the object."""


class Held(Struct, frozen=True):
    """A descriptor by which somebody holds the other end."""

    fd: Fd
    cloexec: bool | None
    origin: str = ""
    """Where it got it, as far as that can be told; a phrase."""


class Ender(Struct, frozen=True):
    """Somebody who could end a wait."""

    pid: Pid
    tid: Tid | None
    """The thread; None: any thread of the process."""
    role: Role
    held: tuple[Held, ...] = ()
    note: str = ""
    able: bool = True
    """False: it is named for what it did, and can end nothing."""


class PipeEnd(Struct, frozen=True):
    """An end of a pipe without a name."""

    name: str
    """``pipe:[81234]``."""
    inode: int
    write: bool
    """Whether it is the one that is written to."""


class Wait(Struct, frozen=True):
    """What a task waits for."""

    kind: WaitKind
    what: str
    """A phrase after "waits for": ``the end of pipe:[81234], which is empty``."""
    enders: tuple[Ender, ...] = ()
    closed: bool = False
    """Whether nobody but the enders could end it: no timeout, no stranger, nothing of the kernel's own. Signals are
    left out of this: see ``by_signal``."""
    beyond: str = ""
    """Who or what else could end it, or why that is not known; where it is not closed."""
    ends_in: Nanoseconds | None = None
    """When it ends by itself; None: it does not, or that is not known (see ``timed``)."""
    timed: bool = False
    """Whether it has an end of its own."""
    object: str | None = None
    """The name of what is waited for: equal for two that wait for one object."""
    name: str | None = None
    """Of a lock: the variable, with file and line where they are known."""
    ends: tuple[PipeEnd, ...] = ()
    """The ends of pipes whose holders could end it."""
    locked: int | None = None
    """Of a lock on a file: the number of the file's inode."""
    address: int | None = None
    """Of a futex."""
    idle: bool = False
    """Whether that is how a server or a prompt stands while nobody wants something of it."""
    place: str = ""
    """Where in the program it waits: ``in append, log.c:31``."""
    owner: str = ""
    """Of a lock: who has it that is not there, as a phrase: ``27895, a thread of its creator 27872,``."""
    copied: bool = False
    """A lock whose owner is not in this memory, which is a copy of its creator's."""
    by_signal: str = ""
    """Signals by which the program could end this wait by itself; empty: none is caught."""
    note: str = ""


class Task(Struct, frozen=True):
    """A thread, as it was seen."""

    tid: Tid
    pid: Pid
    ppid: Pid
    name: bytes
    state: str
    """As ps has it in STAT: the letter and its marks."""
    start: int
    """Ticks since boot."""
    age: Nanoseconds
    wait: Wait
    call: str | None = None
    """The call that it is in, with its arguments."""
    restarts: bool | None = None
    """Whether that call goes on by itself after a signal or a stop; None: it is in none, or that is not known."""
    kernel: str | None = None
    """The function of the kernel that it sleeps in."""
    asleep: Nanoseconds | None = None
    """For how long."""
    cpu: Nanoseconds | None = None
    steady: bool = False
    """Whether it has not run between the two looks."""
    stack: tuple[str, ...] = ()
    stack_end: str = ""
    unread: tuple[Unavailable, ...] = ()
    zombies: tuple[Pid, ...] = ()
    """Children that have ended and that it has not waited for."""

    @property
    def ended(self) -> bool:
        """Whether it is a zombie."""
        return self.state[:1] in ("Z", "X")

    @property
    def address_of_futex(self) -> int | None:
        """Where the word lies that it waits for; None: it waits for something else."""
        return self.wait.address

    @property
    def leads(self) -> bool:
        """Whether it is the first thread of its process."""
        return int(self.tid) == int(self.pid)


class Gone(Struct, frozen=True):
    """A task that is not looked at further."""

    tid: Tid
    why: str


class Graph(Struct):
    """All that was seen. It does not change once it is made."""

    asked: tuple[Pid, ...]
    """The processes that the question is about."""
    tasks: dict[Tid, Task]
    gone: tuple[Gone, ...] = ()
    unread: tuple[str, ...] = ()
    """What may not be read of the machine, with the reason and what would allow it."""
    seconds: float = 0.0
    """How long it took to look."""
    left: int = 0
    """Processes that the chains lead to and that were not looked at: there are too many."""
    _by_process: dict[Pid, list[Task]] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        for task in sorted(self.tasks.values(), key=lambda task: (not task.leads, task.tid)):
            self._by_process.setdefault(task.pid, []).append(task)

    def threads(self, pid: Pid) -> list[Task]:
        """The threads of a process that were seen, its first thread first."""
        return self._by_process.get(pid, [])
