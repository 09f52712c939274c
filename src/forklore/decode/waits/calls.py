"""Calls that wait: what for, by which argument, and where the end of their patience is written."""

from __future__ import annotations

from enum import StrEnum, auto
from typing import Final

from msgspec import Struct


class Waits(StrEnum):
    """What a call waits for."""

    READ = auto()
    """Data, or the end of it, on a descriptor."""
    WRITE = auto()
    """Room in what a descriptor leads to."""
    MOVE = auto()
    """splice and the like: data of one descriptor, or room in another."""
    RING = auto()
    """Completions of an io_uring."""
    ACCEPT = auto()
    CONNECT = auto()
    POLL = auto()
    """Any of several descriptors."""
    FUTEX = auto()
    CHILD = auto()
    VFORK = auto()
    LOCK = auto()
    """A lock on a file."""
    OPEN = auto()
    """The other end of a FIFO, or a lease."""
    SIGNAL = auto()
    TIME = auto()
    SEMAPHORE = auto()
    """SysV."""
    MESSAGE_IN = auto()
    MESSAGE_OUT = auto()
    """SysV queues."""
    QUEUE_IN = auto()
    QUEUE_OUT = auto()
    """POSIX queues."""
    RESTART = auto()
    """A call with a timeout that was interrupted and goes on: what it was is not told."""
    DISK = auto()
    """Something that the kernel does by itself: writing back, reading a file."""


class Patience(StrEnum):
    """How a call is told how long to wait. An argument: a pointer to a time, NULL for ever, or a number."""

    SPAN = auto()
    """struct timespec, from when the call began."""
    TIMEVAL = auto()
    """struct timeval, from when the call began."""
    UNTIL = auto()
    """struct timespec, a point of CLOCK_REALTIME."""
    POINT = auto()
    """struct timespec, a point of the clock that the next argument names."""
    MILLISECONDS = auto()
    """A number; negative: for ever."""
    ITSELF = auto()
    """struct timespec that is the purpose of the call."""
    CLOCK = auto()
    """clock_nanosleep: a clock, flags, a struct timespec."""
    FUTEX = auto()
    """By the operation."""


class Waiting(Struct, frozen=True):
    """A call that can wait."""

    waits: Waits
    fd: int | None = None
    """Which argument is the descriptor."""
    patience: Patience | None = None
    """None: without end."""
    timeout: int = 0
    """Which argument it is."""
    restarts: bool = True
    """Whether it goes on after a signal whose handler has SA_RESTART, and after a stop without the program's knowing
    (signal(7)); else it fails with EINTR."""


def _same(names: str, waiting: Waiting) -> dict[str, Waiting]:
    return dict.fromkeys(names.split(), waiting)


CALLS: Final[dict[str, Waiting]] = {
    **_same("read readv pread64 preadv preadv2 recvfrom recvmsg recvmmsg", Waiting(Waits.READ, 0)),
    **_same("write writev pwrite64 pwritev pwritev2 sendto sendmsg sendmmsg", Waiting(Waits.WRITE, 0)),
    **_same("splice tee vmsplice sendfile sendfile64", Waiting(Waits.MOVE)),
    "copy_file_range": Waiting(Waits.DISK, 0), "getrandom": Waiting(Waits.DISK),
    "io_uring_enter": Waiting(Waits.RING, 0, restarts=False),
    "accept": Waiting(Waits.ACCEPT, 0), "accept4": Waiting(Waits.ACCEPT, 0), "connect": Waiting(Waits.CONNECT, 0),
    "poll": Waiting(Waits.POLL, None, Patience.MILLISECONDS, 2, restarts=False),
    "ppoll": Waiting(Waits.POLL, None, Patience.SPAN, 2, restarts=False),
    "select": Waiting(Waits.POLL, None, Patience.TIMEVAL, 4, restarts=False),
    "_newselect": Waiting(Waits.POLL, None, Patience.TIMEVAL, 4, restarts=False),
    "pselect6": Waiting(Waits.POLL, None, Patience.SPAN, 4, restarts=False),
    "epoll_wait": Waiting(Waits.POLL, 0, Patience.MILLISECONDS, 3, restarts=False),
    "epoll_pwait": Waiting(Waits.POLL, 0, Patience.MILLISECONDS, 3, restarts=False),
    "epoll_pwait2": Waiting(Waits.POLL, 0, Patience.SPAN, 3, restarts=False),
    "futex": Waiting(Waits.FUTEX, None, Patience.FUTEX, 3), "futex_wait": Waiting(Waits.FUTEX, None, Patience.FUTEX),
    "futex_waitv": Waiting(Waits.FUTEX, None, Patience.POINT, 3),
    "wait4": Waiting(Waits.CHILD), "waitpid": Waiting(Waits.CHILD), "waitid": Waiting(Waits.CHILD),
    "vfork": Waiting(Waits.VFORK), "clone": Waiting(Waits.VFORK), "clone3": Waiting(Waits.VFORK),
    "flock": Waiting(Waits.LOCK, 0), "fcntl": Waiting(Waits.LOCK, 0), "fcntl64": Waiting(Waits.LOCK, 0),
    "open": Waiting(Waits.OPEN), "openat": Waiting(Waits.OPEN), "openat2": Waiting(Waits.OPEN),
    "creat": Waiting(Waits.OPEN), "truncate": Waiting(Waits.OPEN),
    "pause": Waiting(Waits.SIGNAL, restarts=False), "rt_sigsuspend": Waiting(Waits.SIGNAL, restarts=False),
    "sigsuspend": Waiting(Waits.SIGNAL, restarts=False),
    "rt_sigtimedwait": Waiting(Waits.SIGNAL, None, Patience.SPAN, 2, restarts=False),
    "nanosleep": Waiting(Waits.TIME, None, Patience.ITSELF, 0, restarts=False),
    "clock_nanosleep": Waiting(Waits.TIME, None, Patience.CLOCK, 2, restarts=False),
    "semop": Waiting(Waits.SEMAPHORE, restarts=False),
    "semtimedop": Waiting(Waits.SEMAPHORE, None, Patience.SPAN, 3, restarts=False),
    "msgrcv": Waiting(Waits.MESSAGE_IN, restarts=False), "msgsnd": Waiting(Waits.MESSAGE_OUT, restarts=False),
    "mq_timedreceive": Waiting(Waits.QUEUE_IN, 0, Patience.UNTIL, 4),
    "mq_timedsend": Waiting(Waits.QUEUE_OUT, 0, Patience.UNTIL, 4),
    "restart_syscall": Waiting(Waits.RESTART),
    "fsync": Waiting(Waits.DISK, 0), "fdatasync": Waiting(Waits.DISK, 0), "sync": Waiting(Waits.DISK),
    "syncfs": Waiting(Waits.DISK, 0), "io_getevents": Waiting(Waits.DISK, None, Patience.SPAN, 4, restarts=False),
}  # fmt: skip
"""By name. Calls that are not here return at once, or wait for what only the kernel does."""

_IPC: Final = {
    1: ("semop", (1, 4, 2)),
    4: ("semtimedop", (1, 4, 2, 5)),
    11: ("msgsnd", (1, 4, 2, 3)),
    12: ("msgrcv", (1, 4, 2, 5, 3)),
}
"""Calls that ipc(2) makes and that wait, by the low half of its first argument, and which of the others they get
(ipc/syscall.c)."""


def unfolded(name: str, words: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """What a call of ipc(2) is for, by which 32-bit programs make SysV's calls, with its arguments; else itself."""
    found = _IPC.get(words[0] & 0xFFFF) if name == "ipc" else None
    return (name, words) if found is None else (found[0], tuple(words[index] for index in found[1]))


MOVES: Final = {"splice": (0, 2), "tee": (0, 1), "sendfile": (1, 0), "sendfile64": (1, 0)}
"""Which arguments are the descriptors that data come from and go to. vmsplice has one, for either."""
F_SETLKW, F_OFD_SETLKW, F_SETLKW64 = 7, 38, 14
"""Commands of fcntl(2) that wait (asm-generic/fcntl.h); 14 is F_SETLKW64 of 32-bit programs."""
F_SETLEASE: Final = 1024
WNOHANG: Final = 1
WUNTRACED: Final = 2
P_ALL, P_PID, P_PGID, P_PIDFD = 0, 1, 2, 3
"""idtype of waitid(2)."""
TIMER_ABSTIME: Final = 1
