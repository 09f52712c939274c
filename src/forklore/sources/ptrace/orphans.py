"""Children whose first stop came and whose creator's event did not, or not yet.

The kernel wakes the child before the creator reports it (kernel/fork.c: kernel_clone), so mostly the event is on its
way. A creator that is killed in between never tells, and a child made with CLONE_UNTRACED|CLONE_PTRACE has nobody to.
"""

from __future__ import annotations

from collections.abc import Iterator

from forklore.abi.arch import Arch
from forklore.abi.flags import CLONE_UNTRACED
from forklore.abi.registers import LAYOUTS
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.linux import proc
from forklore.linux.wait import WaitStatus
from forklore.sources.ptrace.entry import EntryReader
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.options import Stops
from forklore.sources.ptrace.suspects import Suspects
from forklore.sources.ptrace.task_table import Family
from forklore.sources.ptrace.tracee import Entry, Tracee

Maker = tuple[Tracee, Entry]
"""Who made a child, and by which call."""


class Orphans:
    """Keeps what nobody announced, and says when nobody will."""

    def __init__(self, kernel: Kernel, family: Family, reader: EntryReader, stops: Stops, machine: Arch) -> None:
        self._kernel = kernel
        self._family = family
        self._reader = reader
        self._stops = stops
        layout = LAYOUTS[machine]
        self._kept = int(layout.ret == layout.args[0])
        """The first argument that a result leaves in its register: the second one on aarch64 and riscv64."""
        self.statuses: dict[Tid, WaitStatus] = {}
        """The first status of each."""
        self.creating: set[Tracee] = set()
        """Who was seen to enter a creation call and not yet to leave it."""
        self.suspects = Suspects(kernel, family.live, machine)
        self._died_creating: list[Maker] = []
        """Who was killed in a creation call, which may have made a child that nobody announced."""
        self._some_killed = False
        """Only then can one have died before it told of its child."""

    def announced(self, tid: Tid) -> WaitStatus | None:
        """A creator's event tells of ``tid``: the status that it had before, if any."""
        self.suspects.announced(tid)
        return self.statuses.pop(tid, None)

    def ended(self, task: Tracee, *, killed: bool) -> None:
        """A task ended, perhaps in a creation call."""
        self._some_killed = self._some_killed or killed
        if task in self.creating:
            self.creating.discard(task)
            if task.entry is not None:
                self._died_creating.append((task, task.entry))

    def ready(self, t: int) -> Iterator[tuple[Tid, Maker | None]]:
        """Those that nobody will tell of any more, and who made them as far as that can be told."""
        for tid in list(self.statuses):
            if tid not in self.statuses:  # announced while another was looked at
                continue
            made = self._made_without_event(tid, t)
            if made is not None or not self._someone_may_announce(tid):
                yield tid, made or self._killed_creator(tid, t)

    def _killed_creator(self, tid: Tid, t: int) -> Maker | None:
        if self.statuses[tid].ended:
            # Nothing of it is left to look at. With stops at entries its creator is among those that died creating.
            return self._died_creating.pop() if len(self._died_creating) == 1 else None
        # The child's registers are its creator's but for the result, so the call that it came from can be told.
        if not self._died_creating:
            return None
        made = self._call(tid, t)
        # The last that died: one that died before may have made none, and is in the list for ever.
        for index in reversed(range(len(self._died_creating))):
            creator, entry = self._died_creating[index]
            if made is not None and made.nr == entry.nr and made.words[self._kept :] == entry.words[self._kept :]:
                del self._died_creating[index]
                return creator, entry
        return None

    def _call(self, tid: Tid, t: int) -> Entry | None:
        try:
            return self._reader.from_registers(tid, t)
        except ProcessLookupError:
            return None

    def _someone_may_announce(self, tid: Tid) -> bool:
        if self._stops is not Stops.EVENTS:
            return bool(self.creating)
        if self._some_killed or self._kept:  # without its flags, whether a call keeps its event back cannot be told
            return self.suspects.may_announce(tid)
        fields = self._kernel.status(tid)
        if isinstance(fields, Unavailable):
            return bool(self._family.live)
        groups = self._family.groups
        return proc.number(fields, b"Tgid") in groups or proc.number(fields, b"PPid") in groups

    def _made_without_event(self, tid: Tid, t: int) -> Maker | None:
        # CLONE_UNTRACED|CLONE_PTRACE attaches the child and tells the creator's tracer nothing (kernel/fork.c:
        # kernel_clone). The child's registers are its creator's: they still show the call.
        if self._stops is not Stops.EVENTS or self.statuses[tid].ended:
            return None
        entry = self._call(tid, t)
        if entry is None or not entry.flags & CLONE_UNTRACED or entry.cleared:
            return None
        creator = self._family.leader(self._kernel.parent_of(Pid(tid)) or Pid(0))
        return None if creator is None else (creator, entry)

