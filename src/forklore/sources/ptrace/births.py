"""What is asked of the kernel and written down when a creation's two sides are both held."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec.structs import astuple

from forklore.abi.arch import Arch
from forklore.abi.resources import APART
from forklore.abi.units import Pid, Unavailable
from forklore.events import records as ev
from forklore.linux import observe
from forklore.sources.ptrace import records, sharing
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.options import Observe
from forklore.sources.ptrace.tracee import Birth, Entry, Tracee
from forklore.sources.ptrace.watch import Watch

CHILD_DIED: Final = Unavailable(0, "the child was killed before its first stop")
CREATOR_DIED: Final = Unavailable(0, "the creator was killed before the child's first stop")
CREATOR_GONE: Final = Unavailable(0, "the creator was let go before the child's first stop")



class Births:
    """Tells of each creation once: as soon as its child has stopped, or when one of the two will not any more."""

    def __init__(
        self, kernel: Kernel, machine: Arch, level: Observe, emit: Callable[[ev.Event], None], watch: Watch
    ) -> None:
        self._kernel = kernel
        self._machine = machine
        self._level = level
        self._emit = emit
        self._watch = watch

    def tell(self, birth: Birth, apart: Unavailable | None = None) -> None:
        """Write a creation's event, unless it is written. ``apart``: why its two sides cannot be looked at together."""
        write = self.look(birth, apart)
        if write is not None:
            write()

    def look(self, birth: Birth, apart: Unavailable | None = None) -> Callable[[], None] | None:
        """Ask what can be asked only while the two are held; what is left to do writes the event, unless it is written.

        With :attr:`may_run` the two may run while that is done.
        """
        child, creator, entry = birth.child, birth.creator, birth.entry
        if birth.told or creator is None:
            return None
        birth.told = True
        seen: observe.Pair | None = None
        standing: ev.Standing | Unavailable | None = None
        if apart is None:
            if self._level is not Observe.NONE:
                seen = self._kernel.pair(creator.tid, child.tid, None if entry is None else entry.flags)
            if self._may_stand_apart(child, creator, entry):
                standing = records.standing(self._kernel, child.tid)
        return partial(self._write, birth, creator, apart, seen, standing)

    def may_run(self, birth: Birth) -> bool:
        """Whether writing what was seen asks nothing more of the two, so that they need not be held for it."""
        return not birth.child.nested and not self._watch.measures

    def _write(
        self, birth: Birth, creator: Tracee, apart: Unavailable | None, pair: observe.Pair | None,
        standing: ev.Standing | Unavailable | None,
    ) -> None:  # fmt: skip
        child, entry = birth.child, birth.entry
        seen: tuple[int, ...] | Unavailable | None = apart if self._level is not Observe.NONE else None
        if pair is not None:
            seen = astuple(pair)
            sharing.joined(creator, child, seen)
        self._emit(
            records.create(
                self._kernel, birth.t, creator.id, child.id, child.tid, entry, self._machine,
                stop=birth.stop, traced=child.keep, nested=child.nested, kcmp=seen, standing=standing,
            )
        )  # fmt: skip
        if apart is None and entry is not None:
            self._watch.created(creator, child, entry, birth.t)

    def _may_stand_apart(self, child: Tracee, creator: Tracee, entry: Entry | None) -> bool:
        # A child is in its creator's namespaces and cgroup by rule (kernel/fork.c: copy_process), unless its call or
        # an unshare or setns before it says otherwise. Reading all of that costs more than a fork.
        if self._level is Observe.FULL and Pid(child.tid) == child.group.tgid:
            return True
        if self._level in (Observe.NONE, Observe.KCMP):
            return False
        pending = creator.parted or creator.time_pending
        return pending or entry is None or bool(entry.flags & APART)
