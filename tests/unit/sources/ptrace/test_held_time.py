"""For how long tasks are held, by a clock that the test turns."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any, cast

from forklore.abi.units import Pid, Tid
from forklore.sources.ptrace.held_time import timed
from forklore.sources.ptrace.kernel import Kernel

STOPPED, EXITED = 0x057F, 0x0700
PROCESSES = {Pid(5), Pid(6)}
TASKS = {Tid(5), Tid(6), Tid(7)}


class Clocked:
    """A kernel with a clock; each restart takes a tick."""

    def __init__(self, *statuses: tuple[int, int]) -> None:
        self.now = self.since = 0
        self._statuses = deque(statuses)
        self.kernel = SimpleNamespace(
            clock=lambda: self.now,
            wait=self._statuses.popleft,
            usage=lambda: (self.now, 4),
            status_since=lambda: self.since,
            cont=self._restart,
            cont_to_syscall=self._restart,
            detach=self._restart,
            listen=self._restart,
            comm=lambda _tid: b"x",
            exists=lambda pid: pid != 5,
        )

    def _restart(self, _tid: int, *_signal: int) -> None:
        self.now += 1


def test_each_task_by_itself() -> None:
    clocked = Clocked((5, STOPPED), (6, STOPPED), (5, STOPPED), (5, EXITED))
    kernel, times = timed(cast("Kernel", cast("Any", clocked.kernel)), PROCESSES, TASKS)
    five, six = Tid(5), Tid(6)
    kernel.wait()
    clocked.now = 10
    kernel.wait()
    clocked.now = 20
    kernel.cont(five)  # held from 0 to 21
    kernel.listen(six)  # from 10 to 22
    clocked.now = 50
    kernel.wait()
    kernel.cont_to_syscall(five, 9)  # from 50 to 51
    clocked.now = 99
    kernel.wait()
    # What came before the tracer learned of it: after its restart, while there was no status yet.
    assert times.taken(five) == (22, 29 + 48, (99, 4), True)
    assert times.taken(six) == (12, 10, None, False)
    assert times.taken(five) == (0, 0, None, False)


def test_no_longer_than_there_was_a_status() -> None:
    clocked = Clocked((5, STOPPED), (5, EXITED))
    kernel, times = timed(cast("Kernel", cast("Any", clocked.kernel)), PROCESSES, TASKS)
    clocked.now, clocked.since = 100, 70
    kernel.wait()
    kernel.cont(Tid(5))
    clocked.now, clocked.since = 300, 290
    kernel.wait()
    assert times.taken(Tid(5)).unseen == 30 + 10


def test_what_is_let_go_was_held_until_then() -> None:
    clocked = Clocked((5, STOPPED))
    kernel, times = timed(cast("Kernel", cast("Any", clocked.kernel)), PROCESSES, TASKS)
    kernel.wait()
    clocked.now = 7
    kernel.detach(Tid(5), 0)
    kernel.cont(Tid(5))  # no stop of it was seen
    assert times.taken(Tid(5)) == (8, 0, None, False)


def test_the_rest_is_the_kernels_own() -> None:
    clocked = Clocked()
    kernel, _ = timed(cast("Kernel", cast("Any", clocked.kernel)), PROCESSES, TASKS)
    assert kernel.comm is clocked.kernel.comm


def test_nothing_is_asked_of_a_thread_at_its_end() -> None:
    clocked = Clocked((7, EXITED), (5, EXITED), (8, EXITED))
    asked: list[int] = []

    def exists(pid: int) -> bool:
        asked.append(pid)
        return pid != 5

    clocked.kernel.exists = exists
    kernel, times = timed(cast("Kernel", cast("Any", clocked.kernel)), PROCESSES, TASKS)
    for _ in range(3):
        kernel.wait()
    assert asked == [5, 8], "a task that is not known yet may be a process"
    assert [times.taken(Tid(tid))[2:] for tid in (7, 5, 8)] == [(None, False), ((0, 4), True), ((0, 4), False)]
