"""When the names of a process's threads are looked at, and what is said of them."""

from __future__ import annotations

import pytest

from forklore.abi.units import Pid, TaskId, Tid, Unavailable
from forklore.events import records as ev
from forklore.sources.ptrace.kernel import Linux
from forklore.sources.ptrace.task_names import Renames
from forklore.sources.ptrace.tracee import Group, Tracee

MS = 1_000_000


class Names(Linux):
    """What /proc/TID/comm holds, and how often it was read."""

    def __init__(self) -> None:
        self.of: dict[int, bytes | Unavailable] = {}
        self.reads = 0

    def comm(self, tid: Tid) -> bytes | Unavailable:
        self.reads += 1
        return self.of.get(tid, b"main")


def threads(count: int) -> Group:
    group = Group(Pid(100), None)
    for number in range(count):
        task = Tracee(TaskId(number + 1), Tid(100 + number), group, 0, comm=b"main")
        group.tasks.add(task)
    return group


def test_a_name_is_told_once() -> None:
    names, told, group = Names(), list[ev.Event](), threads(3)
    renames = Renames(names, told.append)
    names.of[102] = b"worker"
    for t in range(0, 1000, 10):
        renames.look(group, t * MS)
    assert told == [ev.Name(t=0, task=3, comm="worker", how="found")]


def test_it_looks_seldom() -> None:
    names, group = Names(), threads(2)
    renames = Renames(names, lambda _: None)
    for t in range(0, 10_000_000, 1000):
        renames.look(group, t)
    assert names.reads <= 2 * 5, "after 0, 1, 3 and 7 ms"
    before = names.reads
    renames.look(group, 10_000_000_000)
    assert names.reads == before + 2


def test_a_process_without_threads_is_not_looked_at() -> None:
    names = Names()
    Renames(names, lambda _: None).look(threads(1), 0)
    assert names.reads == 0


@pytest.mark.parametrize("found", [Unavailable(2, "gone"), b"main"])
def test_what_is_not_another_name_is_not_told(found: bytes | Unavailable) -> None:
    names, told, group = Names(), list[ev.Event](), threads(2)
    names.of[101] = found
    Renames(names, told.append).look(group, 0)
    assert told == []


def test_a_name_that_is_just_being_taken_is_not_taken_for_a_former_one() -> None:
    names, told, group = Names(), list[ev.Event](), threads(2)
    (task,) = (task for task in group.tasks if task.tid == 101)
    task.comm, task.named = b"new", 5 * MS
    names.of[101] = b"old"
    renames = Renames(names, told.append)
    renames.look(group, 6 * MS)
    assert told == []
    renames.look(group, 2000 * MS)
    assert told == [ev.Name(t=2000 * MS, task=2, comm="old", how="found")]
