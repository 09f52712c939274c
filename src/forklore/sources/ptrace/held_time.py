"""For how long each tracee was held, and what it took of the machine until it ended."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from forklore.abi.units import Pid, Tid

if TYPE_CHECKING:
    from forklore.sources.ptrace.kernel import Kernel

_STOPPED: Final = 0x7F
"""The low bits of the wait status of a task that stopped (wait(2))."""
_Restart = Callable[[Tid, int], None]


class Taken(NamedTuple):
    """What a task took while it was traced."""

    held: int
    """For how many ns it was held, from when the tracer learned of each stop, …"""
    unseen: int
    """… and for how many at most before that; for its end, until its parent could learn of it."""
    used: tuple[int, int] | None
    """:meth:`Kernel.usage` of a process; None if not told."""
    vanished: bool
    """There was no process of that tid any more as soon as its last status was taken."""


class TimedKernel:
    """A kernel whose waits and restarts are timed.

    A task counts as held from when its stop is read. The stop itself was earlier: the tracer was busy with another
    one, or had to wait for a processor. That time is counted apart and is a bound, for where it begins the task may
    have run on: it was restarted, and there was no status then.
    """

    def __init__(self, kernel: Kernel, processes: Container[Pid], tasks: Container[Tid]) -> None:
        for name in dir(kernel):
            if not name.startswith("_"):
                setattr(self, name, getattr(kernel, name))
        self._clock = kernel.clock
        self._since: dict[Tid, int] = {}
        self._held: dict[Tid, int] = {}
        self._let_go: dict[Tid, int] = {}
        self._unseen: dict[Tid, int] = {}
        self._vanished: set[Tid] = set()
        self._used: dict[Tid, tuple[int, int]] = {}
        self.wait = self._waiting(kernel, processes, tasks)
        self.cont = self._timed(kernel.cont)
        self.cont_to_syscall = self._timed(kernel.cont_to_syscall)
        self.detach = self._timed(kernel.detach)
        listen = self._timed(lambda tid, _signal: kernel.listen(tid))
        self.listen = lambda tid: listen(tid, 0)

    def _waiting(
        self, kernel: Kernel, processes: Container[Pid], tasks: Container[Tid]
    ) -> Callable[[], tuple[Tid, int]]:
        since, used, clock, wait_, usage = self._since, self._used, self._clock, kernel.wait, kernel.usage
        vanished, exists = self._vanished, kernel.exists
        let_go, unseen, status_since = self._let_go, self._unseen, kernel.status_since

        def wait() -> tuple[Tid, int]:
            tid, word = wait_()
            now = clock()
            earliest, free = status_since(), let_go.get(tid, 0)
            unseen[tid] = unseen.get(tid, 0) + now - (free if free > earliest else earliest)
            if word & _STOPPED == _STOPPED:
                since[tid] = now
            elif Pid(tid) in processes or tid not in tasks:  # for a thread nobody waits
                if not exists(Pid(tid)):  # before anything else: its parent has been woken
                    vanished.add(tid)
                used[tid] = usage()
            return tid, word

        return wait

    def _timed(self, restart: _Restart) -> Callable[[Tid, int], None]:
        since, held, let_go, clock = self._since, self._held, self._let_go, self._clock

        def timed(tid: Tid, signal: int = 0) -> None:
            restart(tid, signal)
            began = since.pop(tid, None)
            if began is not None:
                let_go[tid] = now = clock()
                held[tid] = held.get(tid, 0) + now - began

        return timed

    def ran(self, tid: Tid) -> int:
        """Of a task that is held: for how many ns it ran before; 0 where it was never let go."""
        since = self._since.get(tid, 0)
        return max(0, since - self._let_go.get(tid, since))

    def taken(self, tid: Tid) -> Taken:
        """What there is of a task that is gone."""
        self._since.pop(tid, None)
        self._let_go.pop(tid, None)
        vanished = tid in self._vanished
        self._vanished.discard(tid)
        return Taken(self._held.pop(tid, 0), self._unseen.pop(tid, 0), self._used.pop(tid, None), vanished)


def timed(kernel: Kernel, processes: Container[Pid], tasks: Container[Tid]) -> tuple[Kernel, TimedKernel]:
    """A kernel that is timed, as what it is for the engine, and its times.

    ``processes``, ``tasks``: the tgids and the tids that are traced, whenever it is looked.
    """
    times = TimedKernel(kernel, processes, tasks)
    return cast("Kernel", times), times
