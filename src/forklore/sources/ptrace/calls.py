"""The calls of tracees: what is read as one is entered, and what its end tells."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from forklore.abi import ptrace as pt
from forklore.abi.arch import Arch
from forklore.abi.errors import RESTARTS
from forklore.abi.flags import CLONE_NEWTIME, CLONE_PTRACE
from forklore.abi.units import Tid
from forklore.events import records as ev
from forklore.linux.tracing import seccomp
from forklore.linux.tracing.wait import WaitStatus
from forklore.sources.outbox import Outbox
from forklore.sources.ptrace import records, sharing
from forklore.sources.ptrace.creations import Creations
from forklore.sources.ptrace.deferred import Deferred
from forklore.sources.ptrace.entry import EntryReader
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.killers import Killers
from forklore.sources.ptrace.new_tasks import NewTasks
from forklore.sources.ptrace.observer import Observers
from forklore.sources.ptrace.options import Observe
from forklore.sources.ptrace.refused import Refusal, UserTasks
from forklore.sources.ptrace.task_names import Titles
from forklore.sources.ptrace.task_table import Family
from forklore.sources.ptrace.tracee import Class, EnteredCall, Tracee

_EXIT: Final = int(pt.SyscallInfoOp.EXIT)


class Calls:
    """Handles the stops of system calls."""

    def __init__(
        self, kernel: Kernel, machine: Arch, observe: Observe, family: Family, creations: Creations,
        reader: EntryReader, new: NewTasks, observers: Observers, killers: Killers, deferred: Deferred, titles: Titles,
        out: Outbox, go: Callable[[Tid], None], begin: Callable[[Tracee, WaitStatus, int], None],
    ) -> None:  # fmt: skip
        """``begin`` handles the first status of a child that came before it was told of."""
        self._kernel = kernel
        self._machine = machine
        self._observe = observe
        self._family = family
        self._creations = creations
        self._reader = reader
        self._new = new
        self._observers = observers
        self._entered = observers.call_entered
        self._deferred = deferred
        self._user_tasks = UserTasks(kernel, family)
        self._killers = killers
        self._titles = titles
        self._out = out
        self._go = go
        self._begin = begin

    def seccomp_stop(self, task: Tracee, _status: WaitStatus, t: int) -> None:
        """A call that the filter stops at: its arguments, while the task is held."""
        _op, audit, nr, words = self._kernel.syscall_info(task.tid)
        foreign = self._kernel.seccomp_data() != seccomp.MARK
        if isinstance(words, int):
            entry = None
        else:
            entry = self._reader.read(task.tid, t, audit, nr, words, may_clear=not foreign)
        if foreign:  # a filter of the program's own asks for a tracer of its own, which it has not
            self._kernel.skip_call(task.tid)
        if entry is None or entry.kind is Class.NAME:
            if not foreign:
                self._named(task, entry, t)
            self._kernel.cont(task.tid)
            return
        entry.filters = "tracer" if foreign else "passed"
        self._enter(task, entry)
        # To the exit stop, should the call fail: an event on the way there restarts with PTRACE_CONT.
        self._kernel.cont_to_syscall(task.tid)

    def _enter(self, task: Tracee, entry: EnteredCall) -> None:
        task.entry = entry
        if entry.kind is Class.KILL:
            self._killers.entered(task, entry)
        elif entry.kind is Class.CREATION:
            self._creations.entered(task, entry)
            self._new.look_behind(task, entry, entry.t)
        elif entry.kind is Class.EXEC:
            for executing in self._observers.executing:
                executing(task)

    def _named(self, task: Tracee, entry: EnteredCall | None, t: int) -> None:
        # The kernel cannot refuse a name that can be read (kernel/sys.c: PR_SET_NAME).
        if entry is not None and isinstance(entry.path, bytes) and entry.path != task.comm:
            task.comm, task.named = entry.path, t
            self._out(ev.Name(t=t, task=task.id, comm=ev.text(entry.path), how="prctl"))

    def syscall_stop(self, task: Tracee, _status: WaitStatus, t: int) -> None:
        """The entry or the exit of a call."""
        op, audit, nr, words = self._kernel.syscall_info(task.tid)
        if isinstance(words, int):
            if op == _EXIT:
                for call_left in self._observers.call_left:
                    call_left(task, t, words)
            entry, task.entry = task.entry, None
            if op == _EXIT and entry is not None:
                self._returned(task, entry, words, t)
        elif not (self._entered and any(entered(task, t, audit, nr, words) for entered in self._entered)):
            found = self._reader.read(task.tid, t, audit, nr, words)
            if found is None or found.kind is Class.NAME:
                self._named(task, found, t)
            else:
                self._enter(task, found)
        self._go(task.tid)

    def _returned(self, task: Tracee, entry: EnteredCall, result: int, t: int) -> None:
        if entry.kind is Class.CREATION:
            self._creations.returned(task)
        if entry.cleared:
            self._reader.put_back(task.tid, entry)
        if -result in RESTARTS:
            return
        if entry.kind is Class.KILL:
            if result < 0:
                self._killers.refused(entry)
            return
        if entry.kind is Class.OTHER:
            self._unshared(task, entry, result, t)
        elif result < 0 and entry.kind is Class.EXEC:
            self._out(records.exec_fail(t, task, entry, -result))
        elif result < 0:
            record = records.fail(self._kernel, t, task, entry, -result)
            self._deferred.work.append(Refusal(task, record, self._user_tasks, partial(self._refused, entry)))
        elif entry.kind is Class.CREATION:
            self._without_event(task, entry, result, t)

    def _refused(self, entry: EnteredCall, record: ev.Fail) -> None:
        records.tell(self._out, record, entry)

    def _unshared(self, task: Tracee, entry: EnteredCall, result: int, t: int) -> None:
        if result >= 0 and entry.name == "setsid":
            self._titles.new_session(task)
        changed = result >= 0 and entry.name not in ("setsid", "ptrace")
        compared = sharing.compared_again(task) if changed else {}
        namespaces = changed and entry.name != "close_range" and self._observe in (Observe.AUTO, Observe.FULL)
        if changed:
            task.parted = task.parted or self.awaits(task.tid, "pid")
            task.time_pending = task.time_pending or entry.name == "setns" or bool(entry.words[0] & CLONE_NEWTIME)
        self._out(records.other(self._kernel, t, task, entry, result, compared, ns=namespaces))

    def awaits(self, tid: Tid, kind: str) -> bool:
        """Whether its next child enters another namespace than its own: so unshare and setns have it of this kind."""
        own, for_children = (self._kernel.link(f"/proc/{tid}/ns/{name}") for name in (kind, f"{kind}_for_children"))
        return own != for_children

    def _without_event(self, task: Tracee, entry: EnteredCall, result: int, t: int) -> None:
        # A creation that sent no event: CLONE_UNTRACED, left in place. The result is the child's tid in the
        # caller's pid namespace, which is the tracer's own but for nested ones.
        # CLONE_PTRACE attached it all the same, whether or not its first stop was seen by now.
        tid = Tid(result)
        traced = tid in self._creations.unannounced or bool(entry.flags & CLONE_PTRACE and not task.parted)
        child = self._family.born(task, tid, entry.flags) if traced else None
        number = self._family.next_id() if child is None else child.id
        record = records.create(
            self._kernel, t, task.id, number, tid, entry, self._machine, stop=None, traced=traced, nested=False
        )
        records.tell(self._out, record, entry)
        if child is not None:
            early = self._creations.attached_without_event(child, t)
            if early is not None:
                self._begin(child, early, t)

    def vfork_done(self, task: Tracee, _status: WaitStatus, t: int) -> None:
        """A CLONE_VFORK child gave its creator's memory back."""
        tid = self._kernel.event_message(task.tid)
        self._out(ev.VforkDone(t=t, task=task.id, child=self._creations.vfork_done(task), tid=tid))
        for vfork_done in self._observers.vfork_done:
            vfork_done(task, t)
        if self._creations.is_in_call(task):  # it kept its event back: its result tells of the child
            self._kernel.cont_to_syscall(task.tid)
        else:
            self._go(task.tid)
