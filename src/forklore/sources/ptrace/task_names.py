"""Names that tasks are given by others (a write to /proc/TID/comm, as pthread_setname_np(3) makes for another thread).

No stop tells of them. So the threads of a process are looked at when one of them stops anyway, at most so often: a
name that is given and lost between two looks, or that the thread which ends next was given last, is not seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from forklore.abi.units import Unavailable
from forklore.events import records as ev
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.tracee import Group, Tracee

_FIRST: Final = 1_000_000
_LONGEST: Final = 100_000_000
"""Nanoseconds from one look to the next: it doubles from the first to the longest."""
_SHARE: Final = 50
"""A look may take one of so many parts of the time to the next, in processor time."""
_SETTLES: Final = 1_000_000_000
"""Nanoseconds after which a name that a task was seen to take is sure to be there: it takes it after its stop."""


class Renames:
    """Looks at the names of a process's threads."""

    def __init__(self, kernel: Kernel, emit: Callable[[ev.Event], None]) -> None:
        self._comm = kernel.comm
        self._emit = emit

    def look(self, group: Group, t: int) -> None:
        """At a stop of one of the group's tasks, ``t`` ns since the start."""
        if t < group.next_look or len(group.tasks) < 2:
            return
        began = time.thread_time_ns()
        for task in tuple(group.tasks):
            self._compare(task, t)
        took = time.thread_time_ns() - began
        group.pause = min(2 * group.pause, _LONGEST) if group.pause else _FIRST
        group.next_look = t + max(group.pause, _SHARE * took)

    def _compare(self, task: Tracee, t: int) -> None:
        if task.named is not None and t - task.named < _SETTLES:
            return
        found = self._comm(task.tid)
        if isinstance(found, Unavailable) or task.comm is None or found == task.comm.rstrip(b"\n"):
            return
        task.comm = found
        self._emit(ev.Name(t=t, task=task.id, comm=ev.text(found), how="found"))
