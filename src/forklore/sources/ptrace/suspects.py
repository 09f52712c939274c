"""Who may still tell of a child that stopped before its creator's event came, where no entry stop was seen.

A creator that is killed between waking its child and its own event stop tells nothing (kernel/fork.c: kernel_clone),
and the child belongs to a reaper by the time it is looked at, which may be traced too. So the parent alone does not
say whether somebody is about to announce the child: somebody has to be in a creation call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.units import Tid, Unavailable
from forklore.linux import proc, seccomp
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.tracee import Tracee

_GONE: Final = frozenset({2, 3})
"""ENOENT, ESRCH: the task is no more."""


class Suspects:
    """A task that runs is asked to stop, once: its next stop is the event, or clears it."""

    def __init__(self, kernel: Kernel, live: Mapping[Tid, Tracee], machine: Arch) -> None:
        self._kernel = kernel
        self._live = live
        self._creations = {
            number
            for arch in seccomp.host_arches(machine)
            for name in syscalls.CREATIONS
            if (number := syscalls.number(arch, name)) is not None
        }
        self._readable = not isinstance(kernel.file("/proc/self/syscall"), Unavailable)
        self._asked: dict[Tid, dict[Tracee, bool]] = {}
        """For each child who was asked to stop, and whether it has stopped since."""

    def may_announce(self, child: Tid) -> bool:
        """Whether the event that tells of ``child`` can still come. It is then asked again after the next stop."""
        if not self._readable:
            return bool(self._live)
        fields = self._kernel.status(child)
        asked = self._asked.setdefault(child, {})
        for task in list(self._live.values()):
            if task.tid != child and self._could(task, child, fields) and self._is_creating(task, asked):
                return True
        del self._asked[child]
        return False

    def announced(self, child: Tid) -> None:
        """Nobody needs to be asked about ``child`` any more."""
        self._asked.pop(child, None)

    def stopped(self, task: Tracee) -> None:
        """``task`` stopped for another reason than a creation: it made none of the children that are waiting."""
        for asked in self._asked.values():
            if task in asked:
                asked[task] = True

    @staticmethod
    def _could(task: Tracee, child: Tid, fields: proc.Status | Unavailable) -> bool:
        if task.stopped or task.vfork_child is not None:  # the latter waits for one that it has announced
            return False
        if isinstance(fields, Unavailable):
            return True
        tgid, parent = proc.number(fields, b"Tgid"), proc.number(fields, b"PPid")
        if tgid != child:
            return task.group.tgid == tgid
        return parent in (task.group.tgid, task.group.parent)  # the latter by CLONE_PARENT

    def _is_creating(self, task: Tracee, asked: dict[Tracee, bool]) -> bool:
        raw = self._kernel.file(f"/proc/{task.tid}/syscall")
        if isinstance(raw, Unavailable):
            return raw.errno not in _GONE
        if not raw.startswith(b"running"):
            return int(raw.split()[0]) in self._creations
        if task not in asked:
            try:
                self._kernel.interrupt(task.tid)
            except ProcessLookupError:
                return False
            asked[task] = False
        return not asked[task]
