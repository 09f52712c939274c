"""What a descriptor is waited for, and who holds the other end, with where each has it from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct, structs

from forklore.abi.text import printable
from forklore.abi.units import Nanoseconds, Pid, Tid, Unavailable
from forklore.features.why.graph import Ender, Held, Role, WaitKind
from forklore.features.why.observe.machine import Machine
from forklore.linux.waits import tables
from forklore.linux.waits.look import Look
from forklore.linux.waits.tables import Holding

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
    idle: bool = False
    timed: bool = False
    ends_in: Nanoseconds | None = None


class Holders:
    """Tells who holds descriptors."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def told(self, task: Look, holders: list[Holding], role: Role) -> tuple[Ender, ...]:
        """Those who hold descriptors, each process once."""
        by_process: dict[Pid, list[Holding]] = {}
        for each in holders:
            by_process.setdefault(each.pid, []).append(each)
        found: list[Ender] = []
        for pid, held in by_process.items():
            told = tuple(self._one(task, each, trace=len(found) < _MOST_TRACED) for each in held)
            found.append(Ender(pid, None, role, told))
        return tuple(found)

    def _one(self, task: Look, held: Holding, *, trace: bool) -> Held:
        info = tables.info(held.tid, held.fd)
        cloexec = None if isinstance(info, Unavailable) else info.cloexec
        origin = self._origin(task, held) if trace and held.pid != task.pid else ""
        return Held(held.fd, cloexec, origin)

    def _origin(self, task: Look, held: Holding) -> str:
        """Where a process has a descriptor from, as far as those that live show."""
        same = [each for each in self._machine.tables.holders(held.target) if each.pid != held.pid]
        known: set[Pid] = set()
        look = self._machine.look(held.tid)
        pid = held.pid
        while not isinstance(look, Unavailable) and look.ppid and look.ppid not in known:
            known.add(look.ppid)
            pid = look.ppid
            for each in same:
                if each.pid == pid and tables.same_file(each, held):
                    return f"inherited from {pid} {self.name(pid)}, which has it as fd {each.fd}"
            look = self._machine.look(Tid(int(pid)))
        for each in same:
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
