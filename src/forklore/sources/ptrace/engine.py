"""The loop: one wait status after another becomes a stop, each stop becomes events and a restart.

One thread, wait4(-1, __WALL). A successful creation is told by its event stop; the entry stop before
it kept the arguments, and the creator is held until the child's own first stop, so that both can be looked at
together. The child's stop may come before the creator's event (kernel/fork.c: kernel_clone wakes the child first):
a tid that nobody announced is kept, never taken for a stranger.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal

from forklore.abi.arch import Arch
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.events import records as ev
from forklore.linux.ours import leaving
from forklore.linux.tracing.wait import Kind, WaitStatus
from forklore.sources.outbox import Outbox
from forklore.sources.ptrace import records, sharing
from forklore.sources.ptrace.alarm import Alarm
from forklore.sources.ptrace.announcers import Announcers
from forklore.sources.ptrace.calls import Calls
from forklore.sources.ptrace.creations import CreationInFlight, Creations
from forklore.sources.ptrace.deferred import Deferred
from forklore.sources.ptrace.ends import Ends
from forklore.sources.ptrace.entry import EntryReader
from forklore.sources.ptrace.exit_stops import ExitStops
from forklore.sources.ptrace.held_pairs import CREATOR_GONE, HeldPairs
from forklore.sources.ptrace.held_time import timed
from forklore.sources.ptrace.kernel import LINUX, Kernel
from forklore.sources.ptrace.killers import Killers
from forklore.sources.ptrace.new_tasks import NewTasks
from forklore.sources.ptrace.observer import Observer, Observers
from forklore.sources.ptrace.observers import callers_of, observers_of
from forklore.sources.ptrace.options import Leave, Observe, Options, Stops, Until, trace_options
from forklore.sources.ptrace.signal_delivery import CRASHES, ENDING, Delivery
from forklore.sources.ptrace.task_names import Renames, Titles
from forklore.sources.ptrace.task_table import Family
from forklore.sources.ptrace.tracee import Tracee
from forklore.sources.ptrace.wake import Wake
from forklore.sources.ptrace.zombies import SOON, Zombies

if TYPE_CHECKING:
    from forklore.linux.tracing.seizing import Seizing
    from forklore.sources.source import Emit, Idle


Handler = Callable[[Tracee, WaitStatus, int], None]
_WORKERS: Final = 64
"""Of a process that gets a signal by which servers are told to end, so many children are looked at."""


class _Steps(dict[int, tuple[WaitStatus, Handler]]):
    # What each status word means and who handles it, filled as they occur: they are few.
    def __init__(self, handlers: dict[Kind, Handler], other: Handler) -> None:
        super().__init__()
        self._handlers = handlers
        self._other = other

    def __missing__(self, word: int) -> tuple[WaitStatus, Handler]:
        status = WaitStatus.decode(word)
        step = self[word] = (status, self._handlers.get(status.kind, self._other))
        return step


class Engine:
    """Traces what one root task starts. ``emit`` takes each event, ``idle`` is called before each wait."""

    def __init__(
        self, machine: Arch, options: Options, start: int, emit: Emit, idle: Idle, *, kernel: Kernel = LINUX,
        observers: Sequence[Observer] = (),
    ) -> None:  # fmt: skip
        leaving.begin()
        family = self._family = Family(options)
        kernel, times = timed(kernel, family.groups, family.live)
        emit = self._out = Outbox(emit)
        self._machine = machine
        self._kernel = kernel
        self._options = options
        self._stops = options.effective_stops()
        self._observe = options.observe
        self._start = start
        self._emit = emit
        self._idle = idle
        self._alarm = Alarm()
        callers = callers_of(machine, options, emit)
        self._reader = EntryReader(
            kernel, machine, argv=options.argv, follow_untraced=options.follow_untraced,
            glance=None if callers is None else callers.glance,
        )  # fmt: skip
        self._go = kernel.cont_to_syscall if self._stops is Stops.SYSCALLS else kernel.cont
        self._creations = Creations(adopts=kernel.adopts_orphans())
        self._announcers = Announcers(kernel, self._family, self._creations, self._reader, self._stops, machine)
        self._observers = Observers([*observers_of(options, emit, callers), *observers])
        self._renames = Renames(kernel, emit)
        self._exit_stops = ExitStops(kernel, trace_options(self._stops, ends=options.looks_at_ends))
        self._titles = Titles(kernel, self._family, self._exit_stops, emit, argv=options.argv)
        self._killers = Killers(kernel, self._family)
        self._zombies = Zombies(kernel, self._family, emit, self._exit_stops)
        self._deferred = Deferred()
        self._new = NewTasks(
            kernel, self._family, self._creations, self._reader, self._renames, self._observers, self._deferred,
            HeldPairs(kernel, machine, options.observe, emit, self._observers), emit, self._go, times.ran,
        )  # fmt: skip
        self._strangers = {Tid(pid) for pid in kernel.children() if not kernel.reads_for_us(Tid(pid))}
        """Children that this process has had before, of whatever was executed in it: they are no business of ours."""
        self._before: deque[tuple[Tid, int]] = deque()
        """Statuses that came while tasks were attached to."""
        self._wake = Wake(kernel)
        self._asked: Literal["leave", "abandon"] | None = None
        """What another thread wants of the loop."""
        self._leaving = False
        self._killing = False
        self._me = os.getpid()
        self._delivery = Delivery(kernel, machine)
        self._calls = Calls(
            kernel, machine, options.observe, self._family, self._creations, self._reader, self._new, self._observers,
            self._killers, self._deferred, self._titles, emit, self._go, self._begin,
        )  # fmt: skip
        self._ends = Ends(
            kernel, self._family, self._creations, self._announcers, self._new, self._renames, self._observers,
            self._killers, self._zombies, times, emit,
        )  # fmt: skip
        self.outlived: Callable[[WaitStatus, list[tuple[Pid, bytes]]], None] | None = None
        """Told once, where the root has ended and is outlived: how it ended, and the processes that are waited for."""
        self._handlers: dict[Kind, Handler] = {
            Kind.SECCOMP: self._calls.seccomp_stop,
            Kind.FORK: self._on_creation,
            Kind.VFORK: self._on_creation,
            Kind.CLONE: self._on_creation,
            Kind.EXEC: self._on_exec,
            Kind.EXIT: self._on_exiting,
            Kind.VFORK_DONE: self._calls.vfork_done,
            Kind.SYSCALL: self._calls.syscall_stop,
            Kind.SIGNAL: self._on_signal,
            Kind.GROUP_STOP: self._on_group_stop,
            Kind.TRAP: self._on_trap,
            Kind.EXITED: self._on_end,
            Kind.KILLED: self._on_end,
        }

    def starting(self) -> None:
        """The root is about to be made: get ready what would hold somebody later."""
        for starting in self._observers.starting:
            starting()

    def started(self) -> None:
        """The root runs."""
        for started in self._observers.started:
            started()

    # The loop

    def seize(self, pid: Pid) -> None:
        """Take the root, a child that waits to be let go. PermissionError where ptrace is not allowed."""
        self._kernel.seize(Tid(pid), self._exit_stops.options)
        root = self._ends.root = self._family.add(Tid(pid), pid, Pid(self._me), depth=0)
        self._emit(
            ev.Begin(
                t=self._now(), task=root.id, tid=pid, tgid=pid, how="root", parent_tid=self._me,
                standing=self._standing(Tid(pid)),
            )
        )

    def _standing(self, tid: Tid) -> ev.Standing | Unavailable | None:
        return records.standing(self._kernel, tid) if self._observe in (Observe.AUTO, Observe.FULL) else None

    def attach(self, pid: Pid, seizing: Seizing) -> tuple[list[tuple[Tracee, ev.Begin]], list[Unavailable]]:
        """Take every thread of a running process, and why some could not be taken. Nothing is stopped, but for
        a moment threads that compute on and on (:mod:`forklore.linux.tracing.seizing`).

        The records are the caller's to emit, for the tasks that are still alive then.
        """
        self._exit_stops.options = seizing.options
        begun: list[tuple[Tracee, ev.Begin]] = []
        refused: list[Unavailable] = []
        parent = self._kernel.parent_of(pid)
        for taken in seizing.process(pid, self._family.live.__contains__):
            if isinstance(taken, Unavailable):
                refused.append(taken)
                continue
            self._strangers.discard(taken)
            former = self._family.live.get(taken)
            if former is not None:
                self._family.forget(former)
            task = self._family.add(taken, pid, parent, depth=0)
            comm = self._kernel.comm(taken)
            task.comm = None if isinstance(comm, Unavailable) else comm
            begin = ev.Begin(
                t=self._now(), task=task.id, tid=taken, tgid=pid, how="attached", parent_tid=parent,
                comm=None if task.comm is None else ev.text(task.comm),
                ns_tids=records.ns_tids(self._kernel, taken), standing=self._standing(taken),
            )  # fmt: skip
            begun.append((task, begin))
            if self._stops is Stops.SYSCALLS:
                try:
                    self._kernel.interrupt(taken)
                except ProcessLookupError:
                    continue  # it ended: its status comes
        for tid in seizing.executed:
            self._family.forget(self._family.live[tid])
        seizing.executed.clear()
        self._before.extend(seizing.statuses)
        seizing.statuses.clear()
        return begun, refused

    def run(self) -> None:
        """Trace until the options say that it is over."""
        try:
            while self._follow() == "leave":
                self._asked = None
                self.leave()
        finally:
            self._alarm.set(0.0)
        self._close()

    def _follow(self) -> str | None:
        # Until there is nothing left to wait for, or another thread wants something.
        clock, start, idle = self._kernel.clock, self._start, self._idle
        live, awaited, unannounced = self._family.live, self._creations.awaited, self._creations.unannounced
        wait, steps, deferred = self._wait, _Steps(self._handlers, self._on_other), self._deferred
        alarm, out = self._alarm, self._out
        zombies, standing, strangers = self._zombies, self._zombies.standing, self._strangers
        in_exit_stop, all_tell_ends = self._kernel.in_exit_stop, self._exit_stops.everywhere
        t, rang = clock() - start, False
        while not self._asked:
            if deferred.work:
                deferred.run()
            if out.waits and (not (held := self._creations.in_flight) or out.full):
                out.empty(held=held)
            if unannounced:
                self._adopt_unannounced()
            seconds = idle(t)
            if standing:
                if t >= zombies.due:
                    zombies.look(t)
                seconds = min(seconds or zombies.seconds, zombies.seconds or seconds)
            elif alarm.seconds == SOON and not rang:
                seconds = SOON  # to set the timer for each child that ends costs more than a ring in vain
            rang = False
            if seconds != alarm.seconds:
                alarm.set(seconds)
            if strangers and not live and not unannounced and not self._creations.left:
                return None  # they run on, and would be waited for
            try:
                tid, word = wait()
            except InterruptedError:
                rang = True
                t = clock() - start
                continue
            except ChildProcessError:
                return None
            t = clock() - start
            status, handler = steps[word]
            task = live.get(tid)
            if zombies.vanished is not None:
                zombies.follows(task, status)
            try:
                if task is None or tid in awaited:
                    task = self._first_status(tid, status, t)
                    if task is None:
                        continue
                elif deferred.work:
                    deferred.assert_done(task)
                tells_end = task.tells_end or all_tell_ends
                if tells_end and not status.ended and status.kind is not Kind.EXIT and in_exit_stop(tid):
                    continue  # killed out of the stop that was told of: the one that it is in now has a status
                if task.group.tgid in standing and not status.ended:
                    zombies.stopped(task, status, t)
                if self._leaving and not status.ended:
                    self._let_go(task, status)
                else:
                    handler(task, status, t)
            except ProcessLookupError:
                # SIGKILL takes a tracee out of any stop; a status of its own will tell of its end.
                continue
        return self._asked

    def _wait(self) -> tuple[Tid, int]:
        return self._before.popleft() if self._before else self._kernel.wait()

    def _now(self) -> int:
        return self._kernel.clock() - self._start

    # New tasks

    def _on_creation(self, task: Tracee, status: WaitStatus, t: int) -> None:
        child, early = self._new.announced(task, Tid(self._kernel.event_message(task.tid)), status.kind, t)
        if early is not None:
            self._begin(child, early, t)

    def _begin(self, child: Tracee, early: WaitStatus, t: int) -> None:
        # It had a status before it was told of.
        if self._first_status(child.tid, early, t) is not None:
            self._handlers.get(early.kind, self._on_other)(child, early, t)

    def _first_status(self, tid: Tid, status: WaitStatus, t: int) -> Tracee | None:
        # None: there is nothing more to do with this status now.
        creation = self._creations.first_status(tid)
        if creation is None:
            if tid in self._strangers:
                self._strangers.discard(tid)
                return None
            ours = self._wake.took(tid) or self._kernel.reads_for_us(tid)
            if ours or (status.ended and self._creations.is_second_end(tid)):
                return None
            if self._leaving and not status.ended:
                self._kernel.detach(tid, status.signal if status.kind is Kind.SIGNAL else 0)
            else:
                self._creations.stopped_unannounced(tid, status)
            return None
        child = self._new.stopped(creation, status, may_wait=not self._leaving)
        if child is not None and status.kind is Kind.TRAP and creation.creator is not None:
            entry = creation.entry
            self._titles.born(child, creation.creator, 0 if entry is None else entry.flags, t)
        return child

    def _adopt_unannounced(self) -> None:
        for tid, made in self._announcers.without(self._now()):
            self._adopt(tid, made)

    def _adopt(self, tid: Tid, made: CreationInFlight | None) -> None:
        t = self._now()
        child, status = self._new.adopted(tid, made, t)
        if made is not None and made.creator is not None and not made.creator.alive:
            self._ends.inherited(child.group, t)
        if self._killing:
            self.kill()
        with suppress(ProcessLookupError):  # killed: its end has a status of its own
            self._handlers.get(status.kind, self._on_other)(child, status, t)

    def _on_exec(self, task: Tracee, _status: WaitStatus, t: int) -> None:
        former = Tid(self._kernel.event_message(task.tid))
        if former != task.tid and former in self._family.live:
            task = self._ends.superseded(task, former, t)
        entry, task.entry = task.entry, None
        options = self._options
        compared = sharing.compared_again(task) if task.shares else {}
        self._emit(records.executed(self._kernel, t, task, entry, former, compared, argv=options.argv, env=options.env))
        self._titles.executed(task, entry)
        for executed in self._observers.executed:
            work = executed(task, t)
            if work is not None:
                self._deferred.work.append(work)
        if task.time_pending:  # entered now, from Linux 6.2 on (fs/exec.c: begin_new_exec)
            task.time_pending = self._calls.awaits(task.tid, "time")
        task.space = None
        self._go(task.tid)

    # Signals and job control

    def _on_signal(self, task: Tracee, status: WaitStatus, t: int) -> None:
        root = self.root is not None and task.group is self.root.group
        number = self._delivery.of(task, status.signal, t, to_root=root)
        if number is not None and number in ENDING:
            # A server tells its workers to end without a signal.
            for group in (task.group, *islice(task.group.children, _WORKERS)):
                self._titles.look(group, self._family.leader(group.tgid), t)
        if number is not None and number in CRASHES and self._observers.falling and self._delivery.ends(task, number):
            for falling in self._observers.falling:
                falling(task, t)
        if number is None:
            self._let_go(task, None)
        else:
            self._go(task.tid, number)

    def relayed(self, number: int, origin: signal.struct_siginfo) -> None:
        """The tracer is about to pass on a signal that came to it from ``origin``."""
        self._delivery.passing_on(number, origin, self._now())

    def _on_group_stop(self, task: Tracee, status: WaitStatus, t: int) -> None:
        if not task.stopped:
            task.stopped = True
            self._emit(ev.GroupStop(t=t, task=task.id, signal=status.signal))
        self._kernel.listen(task.tid)

    def _on_trap(self, task: Tracee, _status: WaitStatus, t: int) -> None:
        if task.stopped:
            task.stopped = False
            self._emit(ev.Resume(t=t, task=task.id))
        self._announcers.stopped(task)
        self._go(task.tid)

    def _on_other(self, task: Tracee, _status: WaitStatus, _t: int) -> None:
        self._go(task.tid)

    # Ends

    def _on_exiting(self, task: Tracee, _status: WaitStatus, t: int) -> None:
        self._creations.creator_ends(task)
        self._titles.ending(task, t)
        for exiting in self._observers.exiting:
            exiting(task, t)
        self._go(task.tid)

    def _on_end(self, task: Tracee, status: WaitStatus, t: int) -> None:
        if not self._ends.ended(task, status, t):
            return
        if self._options.until is Until.ROOT:
            self.leave()
        elif self.outlived is not None and not self._killing and (left := self._ends.outliving()):
            self.outlived(status, left)

    @property
    def root(self) -> Tracee | None:
        """The task that the traced program began with, or who executed in its place."""
        return self._ends.root

    @property
    def root_status(self) -> WaitStatus | None:
        """Its wait status, once it has ended."""
        return self._ends.root_status

    # Leaving

    @property
    def left(self) -> int:
        """How many tasks are traced now."""
        return len(self._family.live)

    def leave(self) -> None:
        """End the trace: kill what is left, or let it go on, as the options say. The loop then runs out of tracees."""
        if self._options.leave is Leave.KILL:
            self.kill()
            return
        # Whoever would announce these is let go before it does.
        for tid in list(self._creations.unannounced):
            self._adopt(tid, None)
        self._leaving = True
        for creation in self._creations.held():
            assert creation.creator is not None
            self._let_go(creation.creator, None)
        for task in list(self._family.live.values()):
            try:
                self._kernel.interrupt(task.tid)
            except ProcessLookupError:
                continue

    def ask_to_leave(self) -> None:
        """:meth:`leave`, from another thread than the loop's."""
        leaving.asked()
        if self._options.leave is Leave.KILL:
            self.kill()  # kill(2) may come from any thread; the loop sees the ends
            return
        self._asked = "leave"
        with suppress(OSError):  # no process can be made: the loop takes note when the next status comes
            self._wake()

    def abandon(self) -> None:
        """End the loop, from another thread, and leave all tasks as they are. OSError if it cannot be woken.

        The kernel detaches them when the tracing thread ends, and none of them is stopped or interrupted for it
        (kernel/ptrace.c: exit_ptrace).
        """
        leaving.asked()
        self._asked = "abandon"
        self._wake()

    def processes(self) -> list[Pid]:
        """The processes that are traced now; from any thread."""
        return list(self._family.groups)

    def send(self, number: int) -> None:
        """Send a signal to every process that is traced now; from any thread."""
        for tgid in self.processes():
            with suppress(ProcessLookupError):
                self._kernel.kill(tgid, number)

    def kill(self) -> None:
        """SIGKILL every group that is traced, and what they make meanwhile; their ends are reported as any other."""
        self._killing = self._killers.ours = True
        for tgid in list(self._family.groups):
            try:
                self._kernel.kill(tgid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _let_go(self, task: Tracee, status: WaitStatus | None) -> None:
        self._new.creator_gone(task, CREATOR_GONE)
        entry = task.entry
        if entry is not None and entry.cleared:
            self._reader.put_back(task.tid, entry)
        self._kernel.detach(task.tid, status.signal if status is not None and status.kind is Kind.SIGNAL else 0)
        self._emit(ev.Gone(t=self._now(), task=task.id, why="released"))
        self._family.forget(task)

    def _close(self) -> None:
        self._deferred.run()
        self._wake.close()
        why: ev.GoneWhy = "released" if self._asked == "abandon" else "lost"
        for creation in self._creations.held():
            assert creation.creator is not None
            self._new.creator_gone(creation.creator, CREATOR_GONE)
            if creation.entry is not None and creation.entry.cleared:
                self._reader.put_back(creation.creator.tid, creation.entry)
        self.read_titles()
        self._zombies.close(self._now())
        for task in self._family.live.values():
            self._emit(ev.Gone(t=self._now(), task=task.id, why=why))
        self._family.live.clear()

    def read_titles(self) -> None:
        """Look at the command lines of all processes, whoever is held."""
        for group in self._family.groups.values():
            self._titles.look(group, self._family.leader(group.tgid), self._now())

    def finish(self) -> None:
        """After :meth:`run`, in any thread, when nothing is traced any more: what may take its time."""
        leaving.finishing()
        self._out.empty()
        for finish in self._observers.finish:
            finish(self._now())
