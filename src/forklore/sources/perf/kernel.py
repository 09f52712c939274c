"""The kernel's records of one trace, and who they are given to."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from forklore.abi.units import Pid, Tid
from forklore.linux import proc
from forklore.linux.perf.events import paranoid
from forklore.linux.perf.tasks import TaskRecords
from forklore.sources.header import TraceRefusedError
from forklore.sources.perf.follower import FULL, Follower

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SECOND_LOOK: Final = 0.005
"""Seconds until what has come is sure to be complete."""
_PAUSE: Final = 100_000_000
"""Nanoseconds between two looks at all tasks."""


class Events:
    """What the kernel tells of tasks, a :class:`forklore.sources.unheld.Written`. Raises TraceRefusedError."""

    def __init__(self, buffer: int, elapsed: Callable[[], int]) -> None:
        """``buffer``: bytes of all rings together, at most."""
        self._elapsed = elapsed
        try:
            self.records = TaskRecords(buffer)
        except OSError as problem:
            raise TraceRefusedError(refusal(problem)) from problem
        self._follower: Follower | None = None
        self._next_look = 0
        """When all tasks are looked for again, where records were lost."""

    def follow(self, follower: Follower, tids: Iterable[Tid]) -> None:
        """These tasks and what they make are followed from now on. Raises TraceRefusedError."""
        self._follower = follower
        try:
            self.records.mark(tids)
        except OSError as problem:
            raise TraceRefusedError(refusal(problem)) from problem

    @property
    def alive(self) -> int:
        """How many tasks are followed and have not ended, as far as their records were given away."""
        return 0 if self._follower is None else self._follower.alive

    def wait_for(self, fd: int) -> None:
        """:meth:`wait` ends when this can be read, too: once."""
        self.records.wait_for(fd)

    def wait(self, seconds: float) -> None:
        """Until there is much to read, or so long; less where something waits for a second look."""
        self.records.wait(min(seconds, _SECOND_LOOK) if self.records.waiting else seconds)

    def give(self, follower: Follower) -> bool:
        """Have a follower take what is complete now. True: of those that were marked something is always known."""
        for record in self.records.read():
            follower.take(record)
        now = self._elapsed()
        lost = bool(follower.lost or self.records.lost()) and now >= self._next_look
        if lost:
            self._next_look = now + _PAUSE
        follower.look_for(now, _is_there, everybody=lost)
        return True

    def detach(self) -> None:
        """Nothing more is written."""
        self.records.detach()

    def take_the_rest(self, follower: Follower) -> None:
        """What was written until :meth:`detach`."""
        for record in self.records.read(all_of_it=True):
            follower.take(record)

    def tell_what_is_missing(self, notes: Follower, t: int) -> None:
        """What the kernel counted and no record told of: a ring that stays full to the end has none."""
        lost = self.records.lost()
        if lost is not None and lost > notes.lost:
            notes.note(t, f"{lost - notes.lost} records of the kernel's", FULL)

    def close(self) -> None:
        """Nothing of it is left."""
        self.records.close()


def _is_there(pid: Pid, tid: Tid) -> bool:
    return proc.state(pid, tid) not in (None, "Z", "X")


def refusal(problem: OSError) -> str:
    """Why perf_event_open(2) cannot be used, and what to do."""
    what = f"perf_event_open: {os.strerror(problem.errno or 0)}"
    match problem.errno:
        case errno.EACCES | errno.EPERM:
            level = paranoid()
            told = "?" if level is None else level
            why = (
                f"kernel.perf_event_paranoid is {told}; up to 2 everybody may follow their own programs, above that"
                " and in containers whose seccomp profile forbids the call CAP_PERFMON is needed"
            )
        case errno.ENOSYS | errno.ENOENT | errno.EOPNOTSUPP:
            why = "this kernel is built without it (CONFIG_PERF_EVENTS)"
        case errno.EMFILE:
            why = "it takes a descriptor for each processor: see `ulimit -n`"
        case errno.ENOMEM:
            why = "there is no memory for its rings; a smaller --buffer needs less"
        case errno.ESRCH:
            why = "the process is gone"
        case _:
            return what
    return f"{what}: {why}"
