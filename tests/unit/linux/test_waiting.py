"""When a wait asks again and again, and when it sleeps: by a clock and statuses that the test has."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from forklore.linux.tracing import wait
from forklore.linux.tracing.wait import Waiting

US = 1_000


class Machine:
    """A clock that each look turns by a microsecond, and a status that comes ``after`` so many of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, processors: int = 4, load: float = 0.0) -> None:
        self.now = 10**12
        self.after = 0
        self.slept = self.asked = 0
        monkeypatch.setattr(wait, "_clock", self._clock)
        monkeypatch.setattr(wait, "_wait4", self._wait4)
        monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(processors)))
        monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
        self.delayed = 0
        monkeypatch.setattr(wait.Latency, "since_last", lambda _self: self.delayed)
        self.waiting = Waiting()
        self.wait: Callable[[], tuple[int, int]] = self.waiting.any

    def _clock(self) -> int:
        self.now += US
        return self.now

    def _wait4(self, _pid: int, _status: int, options: int, _usage: int) -> int:
        if options & 1:  # WNOHANG
            self.asked += 1
            return 7 if self.now >= self._due else 0
        self.slept += 1
        self.now = max(self.now, self._due)
        return 7

    def waits(self, after: int, times: int = 1) -> None:
        for _ in range(times):
            self._due = self.now + after
            assert self.wait()[0] == 7


def test_statuses_that_come_fast_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.waits(50 * US, 20)
    assert machine.slept < 6
    assert machine.asked


def test_a_quiet_program_costs_a_few_looks_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.waits(50 * US, 20)
    machine.waits(1_000_000 * US, 3)
    asked = machine.asked
    machine.waits(1_000_000 * US, 100)
    assert machine.asked == asked


def test_it_comes_back_when_statuses_do(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.waits(1_000_000 * US, 10)
    assert machine.asked == 0
    machine.waits(50 * US, 10)
    assert machine.asked


@pytest.mark.parametrize(("processors", "load"), [(1, 0.0), (4, 4.5)])
def test_where_others_need_the_processor_it_sleeps(
    processors: int, load: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, processors=processors, load=load)
    machine.waits(50 * US, 50)
    assert machine.asked == 0
    assert machine.slept == 50


def test_an_error_is_one_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.waits(50 * US, 10)
    monkeypatch.setattr(wait, "_wait4", lambda *_: -1)
    monkeypatch.setattr(wait, "fail", lambda what: ChildProcessError(10, what))
    with pytest.raises(ChildProcessError):
        machine.wait()


def test_since_when_a_status_can_have_been_there(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, processors=1)
    machine.delayed = 3 * US
    machine.waits(1_000 * US)
    assert machine.now - machine.waiting.since == machine.delayed, "it slept, and was ready to run for so long"
    since = machine.waiting.since
    machine.now += 500 * US  # busy with what it got
    machine.waits(0)
    assert machine.waiting.since == since, "it did not sleep: the status can have come in all that time"
    machine.delayed = 10_000 * US
    began = machine.now
    machine.waits(1_000 * US)
    assert machine.waiting.since >= began, "there was nothing when it went to sleep"


def test_where_it_asks_the_last_look_that_found_nothing_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.waits(50 * US, 20)
    assert machine.asked
    assert machine.now - machine.waiting.since <= 3 * US


def test_how_long_a_thread_was_ready_to_run() -> None:
    latency = wait.Latency()
    assert latency.since_last() >= 0
    assert latency.since_last() >= 0
    assert latency._fd != -1, "the kernel counts (CONFIG_SCHED_INFO)"
