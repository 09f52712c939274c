"""Who sends SIGKILL: its delivery has no stop and no siginfo, so the calls that send it are looked at."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from forklore.abi.patterns import regex
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.events import records as ev
from forklore.sources.ptrace.tracee import EnteredCall, Tracee

if TYPE_CHECKING:
    from forklore.sources.ptrace.kernel import Kernel
    from forklore.sources.ptrace.task_table import Family

_WORD: Final = 0xFFFFFFFF
_ALL: Final = -1
_OOM_KILLS: Final = regex(rb"^oom_kill (\d+)$", re.M)
_PIDFD: Final = regex(rb"^Pid:\s*(\d+)$", re.M)


class Killer(Struct, frozen=True):
    """Who sent a SIGKILL, and how that is known."""

    by: ev.KilledBy
    pid: Pid | None = None


class Killers:
    """Remembers the calls that sent SIGKILL to a process of the trace."""

    def __init__(self, kernel: Kernel, family: Family) -> None:
        self._kernel = kernel
        self._family = family
        self._sent: dict[Pid, tuple[EnteredCall, Pid]] = {}
        """By the process that is to end: the last such call, and who made it."""
        self.ours = False
        """The tracer ends them all."""
        self._oom_kills = self._count()

    def _count(self) -> int:
        # Of the whole machine (mm/oom_kill.c: __oom_kill_process).
        text = self._kernel.file("/proc/vmstat")
        found = None if isinstance(text, Unavailable) else _OOM_KILLS.search(text)
        return 0 if found is None else int(found[1])

    def entered(self, task: Tracee, entry: EnteredCall) -> None:
        """``task`` is about to send SIGKILL. Of one in a pid namespace of its own it is not known to whom."""
        if not task.nested:
            for tgid in self._targets(task, entry):
                self._sent[tgid] = entry, task.group.tgid

    def refused(self, entry: EnteredCall) -> None:
        """The call failed."""
        self._sent = {tgid: sent for tgid, sent in self._sent.items() if sent[0] is not entry}

    def _targets(self, task: Tracee, entry: EnteredCall) -> Iterable[Pid]:
        first = entry.words[0] & _WORD
        number = first - (1 << 32) if first >> 31 else first
        match entry.name:
            case "tkill":
                found = self._family.live.get(Tid(number))
                return () if found is None else (found.group.tgid,)
            case "tgkill":
                return (Pid(number),)
            case "pidfd_send_signal":
                text = self._kernel.file(f"/proc/{task.tid}/fdinfo/{number}")
                pid = None if isinstance(text, Unavailable) else _PIDFD.search(text)
                return () if pid is None else (Pid(int(pid[1])),)
        if number > 0:
            return (Pid(number),)
        if number == _ALL:
            return [tgid for tgid in self._family.groups if tgid != task.group.tgid]
        group = self._group_of(task.group.tgid) if number == 0 else -number
        return [tgid for tgid in self._family.groups if self._group_of(tgid) == group]

    def _group_of(self, pid: Pid) -> int | None:
        text = self._kernel.file(f"/proc/{pid}/stat")
        return None if isinstance(text, Unavailable) else int(text.rpartition(b")")[2].split()[2])

    def of(self, task: Tracee) -> Killer | None:
        """Who ended a task by SIGKILL; None where nothing tells."""
        sent = self._sent.get(task.group.tgid)
        if sent is not None:
            return Killer("call", sent[1])
        if self.ours:
            return Killer("tracer", Pid(os.getpid()))
        before, self._oom_kills = self._oom_kills, self._count()
        return Killer("oom") if self._oom_kills > before else None

    def forget(self, tgid: Pid) -> None:
        """A process is gone, and its number can be used again."""
        self._sent.pop(tgid, None)
