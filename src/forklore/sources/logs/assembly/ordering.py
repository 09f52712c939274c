"""The tasks of a log, and its events in an order that a trace may have.

A log can show a child at work before its parent's call returns, and only the return names the child. The
events from that child on are held back until then, so that its ``create`` comes before anything it does. Where the
call returns a pid of another namespace, they are held until it can be told which call made it: see
:mod:`forklore.sources.logs.assembly.matching`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Set
from typing import Any, Final

from forklore.abi.arch import Arch
from forklore.abi.flags import CLONE_THREAD
from forklore.decode.library_forms import kind_made_by
from forklore.decode.lineage import lineage
from forklore.events.records import (
    UNKNOWN_TID,
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
    Text,
    VforkDone,
)
from forklore.sources.logs.assembly.matching import Matching
from forklore.sources.logs.assembly.tasks import Creating, LoggedTask, Notices, Place, Slot

_HELD_LIMIT: Final = 10_000
_EXECUTING_LIMIT: Final = 256
_FIRST_PIDS: Final = 300
"""Pids below this are given out once only, in rising order (kernel/pid.c: RESERVED_PIDS)."""


class Ordering:
    """Keeps the tasks of a log and puts their events in order; :meth:`ready` gives those that can go out."""

    def __init__(self, arch: Arch) -> None:
        self.notices = Notices()
        self.matching = Matching(self, self.notices)
        self.tasks: dict[int, LoggedTask] = {}
        self.queue: deque[Event | Place] = deque()
        self.line = 0
        self.executing: dict[LoggedTask, None] = {}
        """The tasks that are in an execve."""
        self.follows = True
        """The log has what children did."""
        self._arch = arch
        self._last_id = 0
        self._root: Slot | None = None
        self._sent = 0
        self._spaces = 0

    def ready(self) -> Iterator[Event]:
        """The events whose order is settled, each once."""
        if len(self.queue) > _HELD_LIMIT:
            self._let_go()
        queue = self.queue
        while queue:
            item = queue[0]
            if isinstance(item, Place):
                if item.after is not None:
                    queue.appendleft(item.after)
                    item.after = None
                    continue
                if item.event is None and not item.void:
                    return
                event, item.event, item.void = item.event, None, True
            else:
                event = item
            queue.popleft()
            if event is not None:
                self._sent += 1
                yield event

    def _let_go(self) -> None:
        self.matching.settle(force=True)
        for call in self.matching.sought:
            if call.place is not None:
                call.place.void = True
                call.place = None
        if self._root is not None:
            self.name_root(self._root.task, self._root.task.tid)

    def emit(self, event: Event) -> None:
        """Append an event."""
        self.queue.append(event)

    def task(self, tid: int, t: int | None, makers: Set[str] | None = None) -> LoggedTask:
        """The task that now has this tid, new if there is none; ``makers`` as in :class:`Slot`."""
        task = self.tasks.get(tid)
        return self._appear(tid, t, makers) if task is None else task

    def sole(self) -> LoggedTask | None:
        """The task of a line that names none: the only one, or the oldest of several."""
        if len(self.tasks) > 1:
            self.notices.add("lines without a pid while several tasks run", self.line)
        return next(iter(self.tasks.values()), None)

    def was_there(self, tid: int, t: int | None, comm: Text | None) -> LoggedTask:
        """A task that is not known yet, and that ran before the log began."""
        task = self._make(tid)
        self.emit(Begin(t=t, task=task.id, tid=tid, tgid=tid, how="log", comm=comm))
        return task

    def _appear(self, tid: int, t: int | None, makers: Set[str] | None) -> LoggedTask:
        task = self._make(tid)
        if self._last_id == 1:
            self._root = Slot(task=task, tid=tid, seq=0, t=t, line=self.line)
            self.queue.append(self._root)
            if tid:
                self.name_root(task, tid)
            return task
        if not self.matching.cut_calls:
            task.seen = 0
        slot = Slot(task=task, tid=tid, seq=self.matching.next(), t=t, line=self.line, makers=makers)
        task.slot = task.shown = slot
        self.queue.append(slot)
        known, spaces = self.matching.shows(slot)
        if not known and 0 not in spaces:
            task.space = (spaces.pop() if len(spaces) == 1 else None) or -self.new_space()
            task.level = 1
        self.matching.settle(force=self.matching.crowded)
        return task

    def new_space(self) -> int:
        """Another pid namespace."""
        self._spaces += 1
        return self._spaces

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
        task = self.tasks[tid] = LoggedTask(self._last_id, tid, self._arch, seen=self.matching.seq)
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
        if task.within:
            call = {**call, "library": task.within[0]}
        return self.matching.begin(task, t, call, flags, self.line, again=again, library=library)

    def created(
        self, creating: Creating, t: int | None, tid: int, inner: int | None = None, *, own: bool = False
    ) -> LoggedTask | None:
        """The call made ``tid``, which is ``inner`` in the creator's own pid namespace, if that differs.

        ``own``: it is one of the log's own pids for certain. The child, if it is known which task that is.
        """
        self.matching.ends(creating)
        slot = self.matching.claims(creating, tid)
        foreign = creating.task.space or (slot is None and self._may_be_inner(creating.task, tid))
        if foreign and inner is None and not own:
            self._created_inside(creating, tid, t)
            return None
        if slot is not None:
            child = slot.task
            self.matching.match(slot, creating, inner)
        else:
            former = self.tasks.get(tid)
            if former is not None:
                self.gone(former, t, "lost")
            child = self._make(tid)
            before = creating.task.shown
            after = None if before is None or before.void else before
            child.shown = Place(event=self._create(creating, child, inner), after=after)
            self.queue.append(child.shown)
            if not self.follows:
                del self.tasks[tid]
        if (done := self._vfork_done(creating, child, t)) is not None:
            self.emit(done)
        self.matching.settle()
        return child

    def _may_be_inner(self, task: LoggedTask, pid: int) -> bool:
        return pid < task.tid and (pid < _FIRST_PIDS or pid not in self.tasks)

    def _created_inside(self, creating: Creating, value: int, t: int | None) -> None:
        if not creating.task.space and value < _FIRST_PIDS and "set_tid" not in creating.call:
            self.is_inside(creating.task)
        place = Place()
        self.queue.append(place)
        self.matching.made_inside(creating, value, t, place, self.line)
        self.matching.settle()

    @property
    def several(self) -> bool:
        """Whether the log has told of more than one task."""
        return self._last_id > 1

    def is_inside(self, task: LoggedTask) -> None:
        """The calls of a task turn out to return pids of another namespace, which the log did not tell of before."""
        space = -self.new_space()  # one that nothing announced
        for other in self.tasks.values():
            if other.group is task.group and not other.space:
                other.space, other.level = space, 1

    def calls_itself(self, task: LoggedTask, tid: int) -> None:
        """A task says its own tid."""
        if task.slot is not None:
            task.slot.own = tid
            self.matching.settle()
        elif not task.tid:
            self.name_root(task, tid)

    def _vfork_done(self, creating: Creating, child: LoggedTask, t: int | None) -> VforkDone | None:
        # A line that has the whole call has the time of its beginning only.
        t = None if t == creating.began else t
        return VforkDone(t=t, task=creating.task.id, child=child.id, tid=child.tid) if creating.vfork else None

    def _create(self, creating: Creating, child: LoggedTask, inner: int | None) -> Create:
        creator = creating.task
        child.arch, child.above = creator.arch, creator.first
        child.space = self.new_space() if creating.space is None else creating.space
        child.level = creator.level + (child.space != creator.space)
        flags = creating.flags
        if flags is None:
            flags = CLONE_THREAD if kind_made_by(creating.call.get("library")) == "thread" else 0
        child.group = lineage(flags, child, creator.group, None).group
        if child.group is not child:
            child.group.threads += 1
        return Create(
            t=creating.began,
            task=creator.id,
            child=child.id,
            tid=child.tid,
            ns_tids=self._numbers(creating, child, inner),
            traced=self.follows,
            **creating.call,
        )

    def _numbers(self, creating: Creating, child: LoggedTask, inner: int | None) -> list[int] | None:
        creator = creating.task
        between = [UNKNOWN_TID] * max(0, creator.level - 1)
        numbers = [] if inner is None or inner == child.tid else [*between, inner]
        if creating.space is None or creator.unshared:
            # Who comes first into a pid namespace is 1 in it (pid_namespaces(7)).
            numbers = [*(numbers or [UNKNOWN_TID] * creator.level), 1]
            creator.unshared = False if creating.space is not None else creator.unshared
        return [child.tid, *numbers] if numbers else None

    def made(self, slot: Slot, creating: Creating, inner: int | None) -> None:
        """The call made the task that showed there: see :class:`forklore.sources.logs.assembly.matching.Found`."""
        slot.event = self._create(creating, slot.task, inner)
        slot.after = creating.task.shown
        if creating.returned is None:
            return
        done = self._vfork_done(creating, slot.task, creating.t)
        place = creating.place
        if place is None:
            if done is not None:
                self.emit(done)
            return
        if slot.seq > creating.returned:
            place.event, slot.event = slot.event, done
            place.after, slot.after = slot.after, place
            slot.void = done is None
        else:
            place.event, place.void = done, done is None

    def begins(self, slot: Slot) -> None:
        """Nothing in the log made the task that showed there."""
        slot.event = Begin(t=slot.t, task=slot.task.id, tid=slot.tid, tgid=slot.tid, how="log")

    # Ends

    def exit(self, task: LoggedTask, t: int | None, status: int | None) -> None:
        """The task ended with this wait status."""
        number = 0 if status is None else status & 0x7F
        if number and task.signal is not None:
            last, code, sender, address = task.signal
            if last == number and code is not None:
                self.emit(Signal(t=t, task=task.id, signal=number, code=code, sender=sender, address=address))
        self.emit(Exit(t=t, task=task.id, status=status))
        self.matching.ended(task, status)
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
        if task.group is not task:
            task.group.threads -= 1
        if self.tasks.get(task.tid) is task:
            del self.tasks[task.tid]
        self.executing.pop(task, None)
        self.matching.abandon(task)

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
        self.matching.execs_told = True
        self.emit(event)
        self.executing.pop(task, None)
        task.group, task.threads = task, 0

    def note(self, what: str, why: str, t: int | None, task: LoggedTask | None = None) -> None:
        """Say in the trace that something is not as the log has it."""
        self.emit(Note(t=t, what=what, why=why, task=None if task is None else task.id))

    def finish(self, t: int | None) -> Iterator[Event]:
        """The rest of the events, and the end."""
        for made in self.matching.without_task() if self.follows else ():
            self.notices.add(f"calls of {made.call['library']} whose task the log does not show", made.line)
        for task in list(self.tasks.values()):
            self.gone(task, t, "ended")
        self.matching.settle(force=True)
        for call in self.matching.sought:
            self._never_shown(call, t)
        self._let_go()
        yield from self.ready()
        yield End(t=t, reason="log", events=self._sent)

    def _never_shown(self, call: Creating, t: int | None) -> None:
        self._last_id += 1
        child = LoggedTask(self._last_id, UNKNOWN_TID if call.task.space else call.value or UNKNOWN_TID, self._arch)
        event = self._create(call, child, call.value if call.task.space else None)
        if call.place is None:
            self.emit(event)
        else:
            call.place.event, call.place = event, None
        if (done := self._vfork_done(call, child, call.t)) is not None:
            self.emit(done)
        if call.task.space:
            self.note("tid", "the log has it only as its creator's pid namespace numbers it", t, child)
        self.emit(Gone(t=t, task=child.id, why="ended"))
