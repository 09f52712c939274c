"""Names that tasks are given by others (a write to /proc/TID/comm, as pthread_setname_np(3) makes for another thread),
and command lines that they write for themselves.

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
from forklore.sources.ptrace.tracee import EnteredCall, Group, Tracee

_FIRST: Final = 1_000_000
_LONGEST: Final = 100_000_000
"""Nanoseconds from one look to the next: it doubles from the first to the longest."""
_SHARE: Final = 50
"""A look may take one of so many parts of the time to the next, in processor time."""
_SETTLES: Final = 1_000_000_000
"""Nanoseconds after which a name that a task was seen to take is sure to be there: it takes it after its stop."""


class Titles:
    """Looks at the command lines that processes write for themselves, as servers do."""

    def __init__(self, kernel: Kernel, emit: Callable[[ev.Event], None], *, argv: bool) -> None:
        """``argv``: command lines are to be told at all."""
        self._arguments = kernel.arguments
        self._emit = emit
        self._argv = argv

    def executed(self, group: Group, entry: EnteredCall | None) -> None:
        """The process has the command line of the exec that it entered so."""
        whole = entry is not None and isinstance(entry.argv, list) and entry.argc is None and not entry.cut
        group.argv = entry.argv if entry is not None and whole and isinstance(entry.argv, list) else None

    def look(self, group: Group, leader: Tracee | None, t: int) -> None:
        """At a moment at which the process may be about to end, at most so often."""
        if not self._argv or leader is None or t < group.argv_look:
            return
        group.argv_look = t + _LONGEST
        found = self._arguments(leader.tid)
        if isinstance(found, Unavailable) or not any(found) or found == group.argv:
            return
        group.argv = found
        # What lies behind a shorter text is what is left of the arguments (prctl(2), PR_SET_MM_ARG_START).
        while len(found) > 1 and not found[-1]:
            found = found[:-1]
        self._emit(ev.Title(t=t, task=leader.id, argv=[ev.text(word) for word in found]))


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
