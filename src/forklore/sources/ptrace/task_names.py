"""Names that tasks are given by others (a write to /proc/TID/comm, as pthread_setname_np(3) makes for another thread),
and command lines that they write for themselves.

No stop tells of them. So the threads of a process are looked at when one of them stops anyway, at most so often: a
name that is given and lost between two looks, or that the thread which ends next was given last, is not seen.

Command lines are looked at where a signal that ends servers comes, and at the end of the trace. A server's child that
ends by itself is asked for a stop at its end: it never executed, and either it made itself a session, as those of
servers do, or its parent or another child of its parent's was found to have a title.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Final

from forklore.abi.flags import CLONE_VM
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.events import records as ev
from forklore.sources.ptrace.tracee import EnteredCall, Group, Tracee

if TYPE_CHECKING:
    from forklore.sources.ptrace.exit_stops import ExitStops
    from forklore.sources.ptrace.kernel import Kernel
    from forklore.sources.ptrace.task_table import Family

_FIRST: Final = 1_000_000
_LONGEST: Final = 100_000_000
"""Nanoseconds from one look to the next: it doubles from the first to the longest."""
_SHARE: Final = 50
"""A look may take one of so many parts of the time to the next, in processor time."""
_KIN: Final = 4
"""So many children of a process are looked at for whether they have titles, …"""
_CANDIDATES: Final = 64
"""… of so many at most that could run the same program: the next child is held meanwhile."""
_SETTLES: Final = 1_000_000_000
"""Nanoseconds after which a name that a task was seen to take is sure to be there: it takes it after its stop."""


class Titles:
    """Looks at the command lines that processes write for themselves, as servers do."""

    def __init__(
        self, kernel: Kernel, family: Family, ends: ExitStops, emit: Callable[[ev.Event], None], *, argv: bool
    ) -> None:
        """``argv``: command lines are to be told at all."""
        self._kernel = kernel
        self._arguments = kernel.arguments
        self._family = family
        self._ends = ends
        self._emit = emit
        self._argv = argv

    def born(self, task: Tracee, creator: Tracee, flags: int, t: int) -> None:
        """``task``, which a call with ``flags`` made, is held and has not run. ProcessLookupError if it was killed."""
        group, kin = task.group, creator.group
        if self._argv and group is not kin and not flags & CLONE_VM:
            if not kin.titled and t >= kin.kin_look:
                kin.kin_look = t + _LONGEST
                kin.titled = self._writes_titles(kin, group)
            if kin.titled:
                group.titled = True
                self._read_at_end(task)
        self._ends.drop(task)

    def new_session(self, task: Tracee) -> None:
        """``task`` leads a session now, and is held. ProcessLookupError if it was killed."""
        if self._argv and task.creator is not None and not task.group.executed:
            self._read_at_end(task)

    def _read_at_end(self, task: Tracee) -> None:
        task.title_at_end = True
        self._ends.add(task)

    def _writes_titles(self, group: Group, newest: Group) -> bool:
        some = (child for child in islice(group.children, _CANDIDATES) if child is not newest and not child.executed)
        program = self._program(group)
        others = (child for child in some if self._program(child) == program)
        return any(_is_title(self._arguments(Tid(each.tgid))) for each in (group, *islice(others, _KIN)))

    def _program(self, group: Group) -> object:
        return self._kernel.link(f"/proc/{group.tgid}/exe")

    def executed(self, task: Tracee, entry: EnteredCall | None) -> None:
        """The process of ``task``, which is held, has the command line of the exec that it entered so."""
        group = task.group
        group.executed, group.titled = True, False
        if task.title_at_end:
            task.title_at_end = False
            self._ends.drop(task)
        whole = entry is not None and isinstance(entry.argv, list) and entry.argc is None and not entry.cut
        group.argv = entry.argv if entry is not None and whole and isinstance(entry.argv, list) else None

    def look(self, group: Group, leader: Tracee | None, t: int) -> None:
        """At a moment at which the process may be about to end, at most so often."""
        if self._argv and leader is not None and t >= group.argv_look:
            group.argv_look = t + _LONGEST
            self._read(group, leader, t)

    def ending(self, task: Tracee, t: int) -> None:
        """``task`` is held at its end."""
        if task.title_at_end and Pid(task.tid) == task.group.tgid:
            self._read(task.group, task, t)

    def _read(self, group: Group, leader: Tracee, t: int) -> None:
        found = self._arguments(leader.tid)
        if isinstance(found, Unavailable) or not any(found) or found == group.argv:
            return
        group.argv = found
        # What lies behind a shorter text is what is left of the arguments (prctl(2), PR_SET_MM_ARG_START).
        while len(found) > 1 and not found[-1]:
            found = found[:-1]
        self._emit(ev.Title(t=t, task=leader.id, argv=[ev.text(word) for word in found]))


def _is_title(words: list[bytes] | Unavailable) -> bool:
    # Written over the arguments: one text, and nothing behind it.
    return not isinstance(words, Unavailable) and b" " in words[0].strip() and not any(words[1:]) if words else False


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
