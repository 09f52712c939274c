"""SysV semaphores and queues of this IPC namespace: who changed them last (semctl(2), /proc/sysvipc)."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

from msgspec import Struct

from forklore.abi.units import Pid, Unavailable
from forklore.linux.libc import function
from forklore.linux.proc import read_file

_GETPID, _GETVAL = 11, 12
_semctl: Final = function("semctl", ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_ulong)


def last_changed(identifier: int, number: int) -> Pid | Unavailable:
    """Who changed a semaphore last; 0: nobody yet."""
    answer: int = _semctl(identifier, number, _GETPID, 0)
    if answer >= 0:
        return Pid(answer)
    problem = ctypes.get_errno()
    if problem == errno.EINVAL:
        return Unavailable(problem, "it is of another IPC namespace, or is gone")
    return Unavailable(problem, f"semctl(2): {os.strerror(problem)}; it takes the right to read the set")


def value(identifier: int, number: int) -> int | None:
    """What a semaphore stands at; None where that may not be read."""
    answer: int = _semctl(identifier, number, _GETVAL, 0)
    return answer if answer >= 0 else None


class Queue(Struct, frozen=True):
    """A SysV queue."""

    bytes: int
    messages: int
    last_sender: Pid
    last_receiver: Pid


def queue(identifier: int) -> Queue | None:
    """A queue of our IPC namespace, as /proc/sysvipc/msg has it; None: it has none of that number."""
    raw = read_file("/proc/sysvipc/msg")
    for line in [] if isinstance(raw, Unavailable) else raw.splitlines()[1:]:
        words = line.split()
        if len(words) >= 7 and int(words[1]) == identifier:
            # key msqid perms cbytes qnum lspid lrpid …
            return Queue(int(words[3]), int(words[4]), Pid(int(words[5])), Pid(int(words[6])))
    return None
