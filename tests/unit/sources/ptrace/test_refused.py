"""How often the tasks of a user are counted: a look at every process there is."""

from __future__ import annotations

from typing import cast

import pytest

from forklore.abi.units import Pid, Tid
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.options import Options
from forklore.sources.ptrace.refused import UserTasks
from forklore.sources.ptrace.task_table import Family

MS = 1_000_000


class Clock:
    """A kernel on which a count works for ``cost`` and takes ``slowed`` times as long. It counts the questions."""

    def __init__(self, cost: int) -> None:
        self.now = self.used = 0
        self.cost, self.slowed = cost, 1
        self.counted = 0

    def clock(self) -> int:
        return self.now

    def worked(self) -> int:
        return self.used

    def tasks_of(self, _uid: int) -> int:
        self.now += self.slowed * self.cost
        self.used += self.cost
        self.counted += 1
        return self.counted


def made(cost: int) -> tuple[Clock, Family, UserTasks]:
    clock, family = Clock(cost), Family(Options())
    return clock, family, UserTasks(cast("Kernel", clock), family)


@pytest.mark.parametrize(("cost", "fresh"), [(4 * MS, 50 * MS), (99 * MS, 990 * MS)])
def test_a_run_of_refusals_is_counted_once(cost: int, fresh: int) -> None:
    clock, _, counts = made(cost)
    assert [counts.of(1000) for _ in range(7000)] == [1] * 7000
    clock.now = fresh
    assert counts.of(1000) == 2, "it is too old"


def test_each_user_has_a_count() -> None:
    _, _, counts = made(MS)
    assert [counts.of(uid) for uid in (1, 2, 1, 2)] == [1, 2, 1, 2]


def test_a_task_that_comes_or_goes_makes_it_stale() -> None:
    _, family, counts = made(MS)
    first = counts.of(1000)
    task = family.add(Tid(7), Pid(7), None, depth=0)
    second = counts.of(1000)
    family.forget(task)
    third = counts.of(1000)
    family.add(Tid(7), Pid(7), None, depth=0)
    assert [first, second, third, counts.of(1000)] == [1, 2, 3, 4]


@pytest.mark.parametrize("cost", [4 * MS, 99 * MS])
def test_counting_takes_a_tenth_of_the_time_at_most(cost: int) -> None:
    """Of a program that makes tasks and is refused more: beyond that there is no answer, not an old one."""
    clock, family, counts = made(cost)
    unknown = 0
    for tid in range(1, 7001):
        family.forget(family.add(Tid(tid), Pid(tid), None, depth=0))
        count = counts.of(1000)
        assert count in (None, clock.counted)
        unknown += count is None
        clock.now += MS
    assert 7000 - unknown == clock.counted
    assert clock.counted * cost <= 200 * MS + clock.now // 10 + cost
    assert clock.counted * cost >= clock.now // 11


def test_waiting_for_a_processor_is_no_counting() -> None:
    """Of ten refusals within a second each is judged by a count of its own, on whatever busy a machine."""
    clock, family, counts = made(MS)
    clock.slowed = 100
    for tid in range(1, 11):
        family.forget(family.add(Tid(tid), Pid(tid), None, depth=0))
        assert counts.of(1000) == tid
