"""The tasks of a log, and its events in an order that a trace may have.

A log can show a child at work before its parent's call returns, and only the return names the child. The
events from that child on are held back until then, so that its ``create`` comes before anything it does.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import chain, islice, takewhile
from typing import Any, Final

from forklore.abi.arch import Arch
from forklore.abi.flags import CLONE_NEWPID, CLONE_VFORK
from forklore.decode.lineage import lineage
from forklore.events.records import (
    Begin,
    Create,
    End,
    Event,
    Exec,
    Exit,
    Gone,
    GoneWhy,
    Note,
    Signal,
    VforkDone,
)
from forklore.sources.logs.tasks import Creating, LoggedTask, Notices, Slot

_HELD_LIMIT: Final = 10_000
_ABANDONED_LIMIT: Final = 64
_EXECUTING_LIMIT: Final = 256


class Ordering:
    """Keeps the tasks of a log and puts their events in order; :meth:`ready` gives those that can go out."""

    def __init__(self, arch: Arch) -> None:
        self.notices = Notices()
        self.tasks: dict[int, LoggedTask] = {}
        self.queue: deque[Event | Slot] = deque()
        self.line = 0
        self.executing: dict[LoggedTask, None] = {}
        """The tasks that are in an execve."""
        self._arch = arch
        self._last_id = 0
        self._seq = 0
        self._root: Slot | None = None
        self._sent = 0
        self._slots: OrderedDict[Slot, None] = OrderedDict()
        self._slot_of: dict[int, Slot] = {}
        self._creating: OrderedDict[Creating, None] = OrderedDict()
        self._abandoned: deque[Creating] = deque(maxlen=_ABANDONED_LIMIT)
        self._inner: deque[tuple[Creating, int, int | None]] = deque()

    def ready(self) -> Iterator[Event]:
        """The events whose order is settled, each once."""
        if len(self.queue) > _HELD_LIMIT:
            self._let_go()
        queue = self.queue
        while queue:
            item = queue[0]
            event = item.event if isinstance(item, Slot) else item
            if event is None:
                return
            queue.popleft()
            self._sent += 1
            yield event

    def _let_go(self) -> None:
        self._settle(force=True)
        if self._root is not None:
            self.name_root(self._root.task, self._root.task.tid)

    def emit(self, event: Event) -> None:
        """Append an event."""
        self.queue.append(event)

    def task(self, tid: int, t: int | None) -> LoggedTask:
        """The task that now has this tid, new if there is none."""
        task = self.tasks.get(tid)
        return self._appear(tid, t) if task is None else task

    def sole(self) -> LoggedTask | None:
        """The task of a line that names none: the only one, or the oldest of several."""
        if len(self.tasks) > 1:
            self.notices.add("lines without a pid while several tasks run", self.line)
        return next(iter(self.tasks.values()), None)

    def _appear(self, tid: int, t: int | None) -> LoggedTask:
        task = self._make(tid)
        if self._last_id == 1:
            self._root = Slot(task, tid, 0, t)
            self.queue.append(self._root)
            if tid:
                self.name_root(task, tid)
            return task
        self._seq += 1
        slot = Slot(task, tid, self._seq, t)
        self._slots[slot] = None
        self._slot_of.setdefault(tid, slot)
        self.queue.append(slot)
        self._settle()
        return task

    def name_root(self, task: LoggedTask, tid: int) -> None:
        """The first task, begun as tid 0, is found to have this one."""
        root = self._root
        if root is None or root.task is not task:
            return
        if root.event is None:
            root.event = Begin(t=root.t, task=task.id, tid=tid, tgid=tid, how="root")
        if tid != task.tid and tid not in self.tasks:
            del self.tasks[task.tid]
            task.tid = tid
            self.tasks[tid] = task

    def _make(self, tid: int) -> LoggedTask:
        self._last_id += 1
        task = self.tasks[tid] = LoggedTask(self._last_id, tid, self._arch)
        return task

    # Creations

    def begin(
        self,
        task: LoggedTask,
        t: int | None,
        call: dict[str, Any],
        flags: int | None,
        *,
        again: bool = False,
        library: bool = False,
    ) -> Creating:
        """A task makes a creating call; with ``again``, more is known of the one that it is making."""
        vfork = bool((flags or 0) & CLONE_VFORK)
        creating = task.creating
        if creating is not None and (again or (creating.library and not library)):
            creating.call, creating.flags, creating.vfork, creating.library = call, flags, vfork, False
            return creating
        self.abandon(task)
        self._seq += 1
        creating = Creating(task, self._seq, t, call, flags, vfork, self.line, library)
        task.creating = creating
        self._creating[creating] = None
        return creating

    def drop(self, creating: Creating) -> None:
        """The call made no task."""
        self._creating.pop(creating, None)
        creating.task.creating = None
        self._settle()

    def abandon(self, task: LoggedTask) -> None:
        """The log shows no end of the call that the task was making: it may have made a task or not."""
        if task.creating is not None:
            self._creating.pop(task.creating, None)
            self._abandoned.append(task.creating)
            self.notices.add("a creation whose result the log does not show", task.creating.line)
            task.creating = None
            self._settle()

    def created(self, creating: Creating, t: int | None, tid: int, inner: int | None = None) -> None:
        """The call made ``tid``, which is ``inner`` in the creator's own pid namespace, if that differs."""
        self._creating.pop(creating, None)
        creating.task.creating = None
        if creating.task.inner_pids and inner is None:
            self._created_inside(creating, tid, t)
            return
        slot = self._slot_of.get(tid)
        if slot is not None and self._claims(creating, slot):
            child = slot.task
            self._fill(slot, creating, inner)
        else:
            former = self.tasks.get(tid)
            if former is not None:
                self.gone(former, t, "lost")
            child = self._make(tid)
            self.emit(self._create(creating, child, creating.began, inner))
        self._vfork_done(creating, child, t)
        self._settle()

    def _created_inside(self, creating: Creating, inner: int, t: int | None) -> None:
        slot = next((s for s in self._slots if self._claims(creating, s)), None)
        if slot is None:
            self._inner.append((creating, inner, t))
        else:
            self._fill(slot, creating, inner)
            self._vfork_done(creating, slot.task, t)
        self._settle()

    def _vfork_done(self, creating: Creating, child: LoggedTask, t: int | None) -> None:
        if creating.vfork:
            # A line that has the whole call has the time of its beginning only.
            t = None if t == creating.began else t
            self.emit(VforkDone(t=t, task=creating.task.id, child=child.id, tid=child.tid))

    def _claims(self, creating: Creating, slot: Slot) -> bool:
        return slot.seq > creating.seq and slot.task is not creating.task

    def _create(self, creating: Creating, child: LoggedTask, t: int | None, inner: int | None) -> Create:
        creator = creating.task
        flags = creating.flags or 0
        child.arch = creator.arch
        child.inner_pids = creator.inner_pids or creator.children_inner or bool(flags & CLONE_NEWPID)
        child.group = lineage(flags, child, creator.group, None).group
        return Create(
            t=t,
            task=creator.id,
            child=child.id,
            tid=child.tid,
            ns_tids=None if inner is None else [child.tid, inner],
            **creating.call,
        )

    def _fill(self, slot: Slot, creating: Creating, inner: int | None) -> None:
        self._unslot(slot)
        slot.event = self._create(creating, slot.task, slot.t, inner)

    def _unslot(self, slot: Slot) -> None:
        del self._slots[slot]
        if self._slot_of.get(slot.tid) is slot:
            del self._slot_of[slot.tid]

    def _settle(self, *, force: bool = False) -> None:
        """Find creators for tasks that no running call can still explain; with ``force``, for all."""
        while self._slots and (force or not self._creating):
            slot = next(iter(self._slots))
            if self._inner and self._inner[0][0].seq < slot.seq:
                creating, inner, t = self._inner.popleft()
                self._fill(slot, creating, inner)
                self._vfork_done(creating, slot.task, t)
            elif (maker := self._only_maker(slot)) is not None:
                self._fill(slot, maker, None)
                self._creating.pop(maker, None)
                maker.task.creating = None
                if maker in self._abandoned:
                    self._abandoned.remove(maker)
            else:
                self._unslot(slot)
                tid = slot.tid
                slot.event = Begin(t=slot.t, task=slot.task.id, tid=tid, tgid=tid, how="log")
                self.notices.add("a task whose creation the log does not show", self.line)

    def _only_maker(self, slot: Slot) -> Creating | None:
        """The one call of unknown result that can have made the task; None if none or several can."""
        before = takewhile(lambda c: c.seq < slot.seq, self._creating)  # they are in that order
        calls = chain(self._abandoned, before)
        could = list(islice((c for c in calls if self._claims(c, slot)), 2))
        return could[0] if len(could) == 1 else None

    # Ends

    def exit(self, task: LoggedTask, t: int | None, status: int | None) -> None:
        """The task ended with this wait status."""
        number = 0 if status is None else status & 0x7F
        if number and task.signal is not None:
            last, code, sender, address = task.signal
            if last == number and code is not None:
                self.emit(Signal(t=t, task=task.id, signal=number, code=code, sender=sender, address=address))
        self.emit(Exit(t=t, task=task.id, status=status))
        self._forget(task)

    def gone(self, task: LoggedTask, t: int | None, why: GoneWhy) -> None:
        """The log has no more of the task: see :class:`forklore.events.records.Gone`."""
        leaving = task.leaving or task.group.group_leaving
        if leaving is not None:
            self.exit(task, leaving[1], leaving[0])
            return
        self.emit(Gone(t=t, task=task.id, why=why))
        self._forget(task)

    def _forget(self, task: LoggedTask) -> None:
        if self.tasks.get(task.tid) is task:
            del self.tasks[task.tid]
        self.executing.pop(task, None)
        self.abandon(task)

    def takes_over(self, task: LoggedTask, tid: int, t: int | None) -> None:
        """A thread that executes takes the tid of its group's leader."""
        leader = self.tasks.get(tid)
        if leader is not None and leader is not task:
            self.emit(Gone(t=t, task=leader.id, why="superseded"))
            self._forget(leader)
        if self.tasks.get(task.tid) is task:
            del self.tasks[task.tid]
        task.former_tid = task.tid
        task.tid = tid
        self.tasks[tid] = task

    def others_executing(self, task: LoggedTask) -> list[LoggedTask]:
        """Who may come back from an execve as ``task``; none when they are too many to tell."""
        if len(self.executing) > _EXECUTING_LIMIT:
            return []
        return [other for other in self.executing if other is not task]

    def executed(self, task: LoggedTask, event: Exec) -> None:
        """The task runs a new image."""
        self.emit(event)
        self.executing.pop(task, None)
        task.group = task

    def note(self, what: str, why: str, t: int | None, task: LoggedTask | None = None) -> None:
        """Say in the trace that something is not as the log has it."""
        self.emit(Note(t=t, what=what, why=why, task=None if task is None else task.id))

    def finish(self, t: int | None) -> Iterator[Event]:
        """The rest of the events, and the end."""
        for task in list(self.tasks.values()):
            self.gone(task, t, "ended")
        self._let_go()
        for creating, inner, when in self._inner:
            child = LoggedTask(self._last_id + 1, inner, self._arch)
            self._last_id += 1
            self.emit(self._create(creating, child, when, None))
            self.note(
                "tid",
                "the log has the child's tid only as its creator's pid namespace numbers it",
                when,
                child,
            )
        yield from self.ready()
        yield End(t=t, reason="log", events=self._sent)
