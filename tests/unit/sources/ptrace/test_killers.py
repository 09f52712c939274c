"""Who sent SIGKILL, by calls and by a /proc that the test writes."""

from __future__ import annotations

from signal import SIGKILL
from types import SimpleNamespace
from typing import Any, cast

import pytest

from forklore.abi.arch import Arch
from forklore.abi.units import Pid, TaskId, Tid, Unavailable
from forklore.sources.ptrace.killers import Killer, Killers
from forklore.sources.ptrace.options import DEFAULTS
from forklore.sources.ptrace.task_table import Family
from forklore.sources.ptrace.tracee import Class, EnteredCall, Tracee

STAT = b"%d (a) b) S 1 %d 1 0 -1 0"


class Machine:
    """Three processes, 10 and 11 of one process group and 12 of another."""

    def __init__(self) -> None:
        self.files = {f"/proc/{pid}/stat": STAT % (pid, group) for pid, group in ((10, 10), (11, 10), (12, 12))}
        self.files["/proc/10/fdinfo/5"] = b"pos:\t0\nflags:\t02000002\nPid:\t11\nNSpid:\t11\n"
        self.files["/proc/vmstat"] = b"nr_free 1\noom_kill 3\n"
        self.family = Family(DEFAULTS)
        self.tasks = {pid: self.family.add(Tid(pid), Pid(pid), Pid(1), depth=0) for pid in (10, 11, 12)}
        kernel = SimpleNamespace(file=lambda path: self.files.get(path, Unavailable(2, "gone")))
        self.killers = Killers(cast("Any", kernel), self.family)

    def sends(self, name: str, *words: int, by: int = 10) -> EnteredCall:
        given = cast("Any", (*(word & (1 << 64) - 1 for word in words), *[0] * 6)[:6])
        entry = EnteredCall(Class.KILL, name, 0, Arch.X86_64, 0, given)
        self.killers.entered(self.tasks[by], entry)
        return entry

    def killed(self) -> list[int]:
        return [pid for pid, task in self.tasks.items() if self.of(task) == Killer("call", Pid(10))]

    def of(self, task: Tracee) -> Killer | None:
        return self.killers.of(task)


@pytest.mark.parametrize(
    ("name", "words", "killed"),
    [
        ("kill", (11, SIGKILL), [11]),
        ("kill", (0, SIGKILL), [10, 11]),
        ("kill", (-12, SIGKILL), [12]),
        ("kill", (-1, SIGKILL), [11, 12]),
        ("kill", (99, SIGKILL), []),
        ("tkill", (12, SIGKILL), [12]),
        ("tkill", (99, SIGKILL), []),
        ("tgkill", (11, 11, SIGKILL), [11]),
        ("pidfd_send_signal", (5, SIGKILL), [11]),
        ("pidfd_send_signal", (6, SIGKILL), []),
    ],
)
def test_to_whom(name: str, words: tuple[int, ...], killed: list[int]) -> None:
    machine = Machine()
    machine.sends(name, *words)
    assert machine.killed() == killed


def test_a_refused_call_ended_nobody() -> None:
    machine = Machine()
    machine.killers.refused(machine.sends("kill", 11, SIGKILL))
    assert machine.killed() == []


def test_a_number_is_used_again() -> None:
    machine = Machine()
    machine.sends("kill", 11, SIGKILL)
    machine.killers.forget(Pid(11))
    assert machine.killed() == []


def test_pids_of_another_namespace_are_not_ours() -> None:
    machine = Machine()
    machine.tasks[10].nested = True
    machine.sends("kill", 11, SIGKILL)
    assert machine.killed() == []


def test_nobody_in_sight() -> None:
    machine = Machine()
    task = machine.tasks[11]
    assert machine.of(task) is None
    machine.files["/proc/vmstat"] = b"oom_kill 4\n"
    assert machine.of(task) == Killer("oom")
    assert machine.of(task) is None
    machine.killers.ours = True
    ours = machine.of(task)
    assert ours is not None
    assert ours.by == "tracer"


def test_a_machine_that_does_not_count() -> None:
    machine = Machine()
    del machine.files["/proc/vmstat"]
    assert machine.of(machine.tasks[11]) is None
    assert TaskId(1) == machine.tasks[10].id
