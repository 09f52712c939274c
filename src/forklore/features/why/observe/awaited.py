"""What a descriptor is waited for, and who holds the other end, with where each has it from."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from typing import Final

from msgspec import Struct, structs

from forklore.abi.text import printable
from forklore.abi.units import Nanoseconds, Pid, Tid, Unavailable
from forklore.features.why.graph import Ender, Held, PipeEnd, Role, WaitKind
from forklore.features.why.observe.machine import Machine
from forklore.linux.waits import tables
from forklore.linux.waits.look import Look
from forklore.linux.waits.tables import Holding
from forklore.report.words.words import count

_MOST: Final = 1024
"""Processes that hold one thing and are named."""
_MOST_BRIEF: Final = 8
_MOST_TRACED: Final = 8
"""Holders whose way to the descriptor is looked for."""


class Awaited(Struct, frozen=True):
    """What a descriptor is waited for."""

    what: str
    """``the end of pipe:[4711], which is empty``."""
    kind: WaitKind
    enders: tuple[Ender, ...] = ()
    closed: bool = False
    beyond: str = ""
    object: str | None = None
    ends: tuple[PipeEnd, ...] = ()
    idle: bool = False
    timed: bool = False
    ends_in: Nanoseconds | None = None


class Holders:
    """Tells who holds descriptors. ``brief``: of so many processes, no more than some and nothing but the numbers."""

    def __init__(self, machine: Machine, *, brief: bool = False) -> None:
        self._machine = machine
        self._brief = brief
        self._most = _MOST_BRIEF if brief else _MOST

    def told(self, task: Look, holders: Iterable[Holding], role: Role) -> tuple[Ender, ...]:
        """Those who hold descriptors, each process once, as far as they are named: see :meth:`unnamed`."""
        by_process: dict[Pid, list[Holding]] = {}
        for each in holders:
            if each.pid not in by_process and len(by_process) > self._most:
                break
            if self._machine.holds(each):
                by_process.setdefault(each.pid, []).append(each)
        found: list[Ender] = []
        for pid, held in by_process.items():
            told = tuple(self._one(task, each, trace=len(found) < _MOST_TRACED) for each in held)
            found.append(Ender(pid, None, role, told))
        return tuple(found)

    def unnamed(self, enders: tuple[Ender, ...]) -> str:
        """Why others may hold it who are not named; empty: nothing speaks for it."""
        if len(enders) > self._most:
            return f"more than {self._most} processes hold it"
        cut = self._machine.tables.cut
        whose = count(cut, "process", "processes")
        return f"the descriptors of {whose} were not read: it would last too long" if cut else ""

    def _one(self, task: Look, held: Holding, *, trace: bool) -> Held:
        if self._brief:
            return Held(held.fd, None)
        info = tables.info(held.tid, held.fd)
        cloexec = None if isinstance(info, Unavailable) else info.cloexec
        origin = self._origin(held) if trace and held.pid != task.pid else ""
        return Held(held.fd, cloexec, origin)

    def _origin(self, held: Holding) -> str:
        """Where a process has a descriptor from, as far as those that live show."""
        same: dict[Pid, list[Holding]] = {}
        for each in self._machine.tables.holders(held.target):
            if each.pid != held.pid:
                same.setdefault(each.pid, []).append(each)
        known: set[Pid] = set()
        look = self._machine.look(held.tid)
        while not isinstance(look, Unavailable) and look.ppid and look.ppid not in known:
            pid = look.ppid
            known.add(pid)
            for each in same.get(pid, ()):
                if tables.same_file(each, held):
                    return f"inherited from {pid} {self.name(pid)}, which has it as fd {each.fd}"
            look = self._machine.look(Tid(int(pid)))
        for each in islice(chain.from_iterable(same.values()), _MOST):
            if tables.same_file(each, held):
                return f"the same open file as fd {each.fd} of {each.pid} {self.name(each.pid)}"
        return "whoever passed it on has ended or closed it"

    def name(self, pid: Pid) -> str:
        """A process's name."""
        look = self._machine.look(Tid(int(pid)))
        return "?" if isinstance(look, Unavailable) else printable(look.name)


def merged(told: Iterable[Iterable[Ender]]) -> tuple[Ender, ...]:
    """Of several lists one, each process or thread once for each role."""
    found: dict[tuple[int, Tid | None, Role], Ender] = {}
    for each in told:
        for ender in each:
            key = ender.pid, ender.tid, ender.role
            known = found.get(key)
            held = ender.held if known is None else tuple(dict.fromkeys((*known.held, *ender.held)))
            found[key] = structs.replace(ender, held=held)
    return tuple(found.values())
