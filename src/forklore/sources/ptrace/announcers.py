"""Children that stopped before anybody told of them: whether somebody still may, and who made them if not.

Mostly the creator's event is on its way (kernel/fork.c: kernel_clone wakes the child first). But a creator that is
killed in between never tells, and a child made with CLONE_UNTRACED|CLONE_PTRACE has nobody to. Such a child belongs to
a reaper by the time it is looked at, which may be traced too, so its parent does not say who made it, nor whether
somebody is about to announce it: for that, somebody has to be in a creation call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.flags import CLONE_UNTRACED
from forklore.abi.registers import LAYOUTS
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.linux import proc
from forklore.linux.tracing import seccomp
from forklore.sources.ptrace.creations import CreationInFlight, Creations, State
from forklore.sources.ptrace.entry import EntryReader
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.options import Stops
from forklore.sources.ptrace.task_table import Family
from forklore.sources.ptrace.tracee import EnteredCall, Tracee

_GONE: Final = frozenset({2, 3})
"""ENOENT, ESRCH: the task is no more."""


class Announcers:
    """Asks the kernel, where entry stops do not say who is in a creation call.

    A task that runs is asked to stop, once for each child: its next stop is the event, or clears it.
    """

    def __init__(
        self, kernel: Kernel, family: Family, creations: Creations, reader: EntryReader, stops: Stops, machine: Arch
    ) -> None:
        self._kernel = kernel
        self._family = family
        self._creations = creations
        self._reader = reader
        self._entries = stops is not Stops.EVENTS
        """Whether entry stops tell who is in a call."""
        layout = LAYOUTS[machine]
        self._kept = int(layout.ret == layout.args[0])
        """The first argument that a result leaves in its register: the second one on aarch64 and riscv64."""
        self._calls = {
            number
            for arch in seccomp.host_arches(machine)
            for name in syscalls.CREATIONS
            if (number := syscalls.number(arch, name)) is not None
        }
        self._readable = not isinstance(kernel.file("/proc/self/syscall"), Unavailable)
        self._some_killed = False
        """Only then can one have died before it told of its child."""

    def killed(self) -> None:
        """A task was killed, perhaps in a creation call."""
        self._some_killed = True

    def stopped(self, task: Tracee) -> None:
        """``task`` stopped for another reason than a creation: it made none of the children that are waiting."""
        for creation in self._creations.unannounced.values():
            if creation.asked is not None and task in creation.asked:
                creation.asked[task] = True

    def without(self, t: int) -> Iterator[tuple[Tid, CreationInFlight | None]]:
        """Children that nobody will tell of any more, and what made them as far as that can be told."""
        for tid in list(self._creations.unannounced):
            creation = self._creations.unannounced.get(tid)
            if creation is None:  # announced while another was looked at
                continue
            made = self._made_without_event(tid, creation, t)
            if made is not None or not self._someone_may_announce(tid, creation):
                yield tid, made or self._left_by_its_creator(tid, creation, t)

    def _left_by_its_creator(self, tid: Tid, creation: CreationInFlight, t: int) -> CreationInFlight | None:
        left = self._creations.left
        if creation.status is not None and creation.status.ended:
            # Nothing of it is left to look at. With stops at entries its creator is among those that died creating.
            return left[0] if len(left) == 1 else None
        # The child's registers are its creator's but for the result, so the call that it came from can be told.
        made = self._call(tid, t) if left else None
        if made is None:
            return None
        # The last that died: one that died before may have made none, and is in the list for ever.
        for each in reversed(left):
            assert each.entry is not None
            first = 1 if each.entry.cleared else self._kept  # the child has the flags that its creator was given
            if made.nr == each.entry.nr and made.words[first:] == each.entry.words[first:]:
                return each
        return None

    def _call(self, tid: Tid, t: int) -> EnteredCall | None:
        try:
            return self._reader.from_registers(tid, t)
        except ProcessLookupError:
            return None

    def _made_without_event(self, tid: Tid, creation: CreationInFlight, t: int) -> CreationInFlight | None:
        # CLONE_UNTRACED|CLONE_PTRACE attaches the child and tells the creator's tracer nothing (kernel/fork.c:
        # kernel_clone). The child's registers are its creator's: they still show the call.
        if self._entries or creation.status is None or creation.status.ended:
            return None
        entry = self._call(tid, t)
        if entry is None or not entry.flags & CLONE_UNTRACED:
            return None
        creator = self._family.leader(self._kernel.parent_of(Pid(tid)) or Pid(0))
        return None if creator is None else CreationInFlight(State.OVER, creator, entry)

    # Whether somebody may still tell

    def _someone_may_announce(self, tid: Tid, creation: CreationInFlight) -> bool:
        if self._entries:
            return self._creations.is_anyone_creating()
        fields = self._kernel.status(tid)
        if self._some_killed or self._kept:  # without its flags, whether a call keeps its event back cannot be told
            return self._someone_is_creating(tid, creation, fields)
        if isinstance(fields, Unavailable):
            return bool(self._family.live)
        groups, parent = self._family.groups, proc.number(fields, b"PPid")
        if proc.number(fields, b"Tgid") in groups or parent in groups:
            return True
        return any(group.parent == parent for group in groups.values())  # by CLONE_PARENT

    def _someone_is_creating(self, tid: Tid, creation: CreationInFlight, fields: proc.Status | Unavailable) -> bool:
        if not self._readable:
            return bool(self._family.live)
        if creation.asked is None:
            creation.asked = {}
        for task in list(self._family.live.values()):
            if task.tid != tid and self._could(task, tid, fields) and self._is_creating(task, creation.asked):
                return True
        creation.asked = None
        return False

    def _could(self, task: Tracee, child: Tid, fields: proc.Status | Unavailable) -> bool:
        if task.stopped or self._creations.has_announced(task):
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
            return int(raw.split()[0]) in self._calls
        if task not in asked:
            try:
                self._kernel.interrupt(task.tid)
            except ProcessLookupError:
                return False
            asked[task] = False
        return not asked[task]
