"""Waits for processes: children, vfork children, and zombies that wait to be waited for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from forklore.abi.signals import signal_name
from forklore.abi.text import printable
from forklore.abi.units import Tid, Unavailable, signed
from forklore.decode.waits.calls import P_ALL, P_PGID, P_PID, P_PIDFD
from forklore.features.why.graph import Ender, Role, Wait, WaitKind
from forklore.features.why.observe.machine import Machine
from forklore.linux import tasks
from forklore.linux.waits import tables
from forklore.linux.waits.look import Look

_WNOTHREAD: Final = 0x20000000
_NAMED: Final = 4
_MANY: Final = 64
"""Children that are looked at; more are counted."""


class Children:
    """Finds out which children a wait is for."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def wait4(self, task: Look, which: int) -> Wait:
        """wait4 and waitpid: -1 any, below a process group, 0 the own group, else that child."""
        pid = signed(which)
        if pid > 0:
            return self._one(task, pid)
        if pid == -1:
            return self._any(task, self._all(task), "a child")
        group = -pid if pid else task.pgrp
        return self._any(
            task, [each for each in self._all(task) if each.pgrp == group], f"a child of process group {group}"
        )

    def waitid(self, task: Look, kind: int, which: int) -> Wait:
        """waitid: by kind."""
        kind, number = signed(kind), signed(which)
        if kind == P_PID:
            return self._one(task, number)
        if kind == P_PIDFD:
            info = tables.info(task.tid, number)
            pid = None if isinstance(info, Unavailable) else info.number(b"Pid")
            return self._one(task, pid) if pid else Wait(WaitKind.CHILD, f"the process of pidfd {number}")
        if kind == P_PGID:
            group = number or task.pgrp
            return self._any(
                task, [each for each in self._all(task) if each.pgrp == group], f"a child of process group {group}"
            )
        return self._any(task, self._all(task), "a child") if kind == P_ALL else Wait(WaitKind.CHILD, "a child")

    def vfork(self, task: Look) -> Wait:
        """A thread that the kernel holds until its vfork child executes or ends."""
        found = [each for each in self._all(task) if each.start >= task.start and self._borrows(task, each)]
        enders = tuple(Ender(each.pid, None, Role.VFORK_CHILD) for each in found)
        what = f"its vfork child {_named(found)} to execute a program or to end" if found else "its vfork child"
        beyond = "" if found else "which child that is may not be told"
        return Wait(WaitKind.VFORK, what, enders, closed=bool(found), beyond=beyond)

    def _borrows(self, task: Look, child: Look) -> bool:
        return tasks.shares_memory(task.tid, child.tid) is not False

    def zombie(self, task: Look) -> Wait:
        """A process that has ended and waits to be waited for."""
        if int(task.tid) == int(task.pid) and len(self._machine.alive(task.pid)) > 0:
            others = self._machine.alive(task.pid)
            enders = tuple(Ender(each.pid, each.tid, Role.THREAD) for each in others[:_MANY])
            what = f"the end of its {len(others)} other threads: the first thread has ended, the process has not"
            return Wait(WaitKind.REAPED, what if len(others) > 1 else "the end of its other thread", enders)
        parent = self._machine.look(Tid(int(task.ppid)))
        if isinstance(parent, Unavailable):
            return Wait(WaitKind.REAPED, "its parent to wait for it", beyond="its parent may not be read")
        note = ended(task.exit_code)
        return Wait(WaitKind.REAPED, f"its parent {parent.pid} {printable(parent.name)} to wait for it",
                    (Ender(parent.pid, None, Role.PARENT),), note=note)  # fmt: skip

    def _one(self, task: Look, pid: int | None) -> Wait:
        if pid is None:
            return Wait(WaitKind.CHILD, "a child")
        tid = self._translated(task, pid)
        child = None if tid is None else self._machine.look(tid)
        if child is None or isinstance(child, Unavailable) or not self._is_for(task, child):
            return Wait(WaitKind.CHILD, f"its child {pid}", beyond="it is not there any more", object=f"child {pid}")
        return Wait(WaitKind.CHILD, f"its child {child.pid} {printable(child.name)} to end",
                    (Ender(child.pid, None, Role.CHILD),), closed=True, object=f"child {child.pid}")  # fmt: skip

    def _is_for(self, task: Look, child: Look) -> bool:
        # Else the number is another process's by now.
        return child.ppid == task.pid or child.tracer in self._machine.threads(task.pid)

    def _translated(self, task: Look, pid: int) -> Tid | None:
        """A pid of the task's own namespace in ours."""
        if len(task.ns_tids) <= 1:
            return Tid(pid)
        return next((each.tid for each in self._all(task) if each.number == pid), None)

    def _any(self, task: Look, children: Iterable[Look], words: str) -> Wait:
        found = [*children, *self._tracees(task)]
        enders = [Ender(each.pid, None, Role.CHILD if each.ppid == task.pid else Role.TRACEE) for each in found]
        siblings = [
            Ender(each.pid, each.tid, Role.SIBLING) for each in self._machine.alive(task.pid) if each.tid != task.tid
        ]
        named = f" ({_named(found)})" if found else ", though it has none"
        return Wait(WaitKind.CHILD, f"{words} to end{named}", tuple(enders[:_MANY]) + tuple(siblings),
                    closed=0 < len(enders) <= _MANY, beyond="" if found else "no child is seen")  # fmt: skip

    def _tracees(self, task: Look) -> list[Look]:
        found = [self._machine.look(Tid(int(pid))) for pid in self._machine.tracees.get(task.tid, ())]
        return [
            each for each in found
            if not isinstance(each, Unavailable) and each.tracer == task.tid and each.ppid != task.pid
        ]  # fmt: skip

    def _all(self, task: Look) -> list[Look]:
        children = self._machine.children.get(task.pid, [])
        found = [self._machine.look(Tid(int(pid))) for pid in children]
        # A number may be another process's by now, and one that was seen as a child may have another parent.
        return [each for each in found if not isinstance(each, Unavailable) and each.ppid == task.pid]


def _named(found: list[Look]) -> str:
    shown = ", ".join(f"{each.pid} {printable(each.name)}" for each in found[:_NAMED])
    return shown if len(found) <= _NAMED else f"{shown} and {len(found) - _NAMED} more"


def ended(status: int) -> str:
    """How a wait status says that a process ended: ``exit 3``, ``SIGKILL``."""
    return signal_name(status & 0x7F) if status & 0x7F else f"exit {status >> 8}"
