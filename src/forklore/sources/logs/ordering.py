"""The tasks of a log, and its events in an order that a trace may have.

A log can show a child at work before its parent's call returns, and only the return names the child. The
events from that child on are held back until then, so that its ``create`` comes before anything it does. Where the
call returns a pid of another namespace, they are held until it can be told which call made it: see
:mod:`forklore.sources.logs.births`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Set
from dataclasses import replace
from itertools import chain, islice, takewhile
from typing import Any, Final

from forklore.abi.arch import Arch
from forklore.abi.flags import CLONE_THREAD, CLONE_VFORK
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
    VforkDone,
)
from forklore.sources.logs.births import AT_ANY_TIME, Told, assigned, fits
from forklore.sources.logs.tasks import Creating, LoggedTask, Notices, Place, Slot

_HELD_LIMIT: Final = 10_000
_ABANDONED_LIMIT: Final = 64
_GENERATIONS: Final = 1024
"""Whose places are still open. Where there are more, no log that strace wrote has them in a circle."""
_EXECUTING_LIMIT: Final = 256
_SOUGHT_LIMIT: Final = 1024
"""Calls whose child is not found; where there are more, nothing that follows is told by them."""
_TASKS_SOUGHT_LIMIT: Final = 256
_PAIRS_LIMIT: Final = 512
"""Of such calls and tasks, that are looked through at each event."""
_NOTHING_TOLD: Final = Told()
_FIRST_PIDS: Final = 300
"""Pids below this are given out once only, in rising order (kernel/pid.c: RESERVED_PIDS)."""


class Ordering:
    """Keeps the tasks of a log and puts their events in order; :meth:`ready` gives those that can go out."""

    def __init__(self, arch: Arch) -> None:
        self.notices = Notices()
        self.tasks: dict[int, LoggedTask] = {}
        self.queue: deque[Event | Place] = deque()
        self.line = 0
        self.executing: dict[LoggedTask, None] = {}
        """The tasks that are in an execve."""
        self._arch = arch
        self._last_id = 0
        self.seq = 0
        self._root: Slot | None = None
        self._sent = 0
        self._slots: OrderedDict[Slot, None] = OrderedDict()
        self._slot_of: dict[int, Slot] = {}
        self._creating: OrderedDict[Creating, None] = OrderedDict()
        self._abandoned: deque[Creating] = deque(maxlen=_ABANDONED_LIMIT)
        self._inner: dict[Creating, None] = {}
        """The calls that returned a pid of another namespace, or one that may be, and whose child is not found."""
        self._too_many = False
        """There were more of these than are kept."""
        self._spaces = 0
        self._execs_told = False
        self.ends_told = False
        """The log has lines that tell of the ends of tasks."""
        self.cut_calls = True
        """A call that lasts is in the log before it returns. Not so with ``strace -z``."""
        self.interleaved = False
        """A call's line stands where it returned. In files of ``strace -ff`` put together it stands where it began."""
        self.follows = True
        """The log has what children did."""

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
        self._settle(force=True)
        for call in self._inner:
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

    def _appear(self, tid: int, t: int | None, makers: Set[str] | None) -> LoggedTask:
        task = self._make(tid)
        if self._last_id == 1:
            self._root = Slot(task=task, tid=tid, seq=0, t=t, line=self.line)
            self.queue.append(self._root)
            if tid:
                self.name_root(task, tid)
            return task
        if not self.cut_calls:
            task.seen = 0
        self.seq += 1
        slot = Slot(task=task, tid=tid, seq=self.seq, t=t, line=self.line, makers=makers)
        self._slots[slot] = None
        self._slot_of.setdefault(tid, slot)
        task.slot = task.shown = slot
        self.queue.append(slot)
        same = next((call for call in self._inner if call.value == tid and not call.task.space), None)
        if same is not None:
            self._fill(slot, same)  # a lower pid than its creator's, and the log's own all the same
        elif self._inner:
            some = islice(chain(self._creating, self._inner), 64)
            spaces = {call.space for call in some if fits(call, slot, _NOTHING_TOLD)}
            if 0 not in spaces:
                task.space = (spaces.pop() if len(spaces) == 1 else None) or -self.new_space()
                task.level = 1
        self._settle(force=bool(self._inner) and len(self._slots) > _TASKS_SOUGHT_LIMIT)
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
        task = self.tasks[tid] = LoggedTask(self._last_id, tid, self._arch, seen=self.seq)
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
        if task.within:
            call = {**call, "library": task.within[0]}
        creating = task.creating
        if creating is not None and (again or (creating.library and not library)):
            creating.call, creating.flags, creating.vfork, creating.library = call, flags, vfork, False
            return creating
        self.abandon(task)
        self.seq += 1
        # Of a whole line in a log without cut calls it is known only that the call began after the task's last one.
        began = task.seen if again and not self.cut_calls else self.seq
        creating = Creating(task, began, t, call, flags, vfork, self.line, library)
        task.creating = creating
        self._creating[creating] = None
        return creating

    def drop(self, creating: Creating) -> None:
        """The call made no task."""
        self._creating.pop(creating, None)
        creating.task.creating = None
        self._settle()

    def returned(self, creating: Creating, *, certain: bool) -> bool:
        """The call has returned without the pid of what it made; whether it can have made a task.

        ``certain``: it made one, which shows before or after this. Otherwise it made one of those that have shown in
        the meantime, or none.
        """
        creating.certain = certain
        if not certain:
            creating.until = self.seq
            if not any(_may_have_made(creating, slot) for slot in self._slots):
                self.drop(creating)
                return False
        self._creating.pop(creating, None)
        creating.task.creating = None
        self._abandoned.append(creating)
        self._settle()
        return True

    def abandon(self, task: LoggedTask) -> None:
        """The log shows no end of the call that the task was making: it may have made a task or not."""
        if task.creating is not None:
            self._creating.pop(task.creating, None)
            self._abandoned.append(task.creating)
            if not task.creating.certain:
                self.notices.add("a creation whose result the log does not show", task.creating.line)
            task.creating = None
            self._settle()

    def created(self, creating: Creating, t: int | None, tid: int, inner: int | None = None) -> None:
        """The call made ``tid``, which is ``inner`` in the creator's own pid namespace, if that differs."""
        self._creating.pop(creating, None)
        creating.task.creating = None
        slot = self._slot_of.get(tid)
        claimed = slot is not None and fits(creating, slot, _NOTHING_TOLD) and not _comes_after(creating.task, slot)
        if inner is None and (creating.task.space or (not claimed and self._may_be_inner(creating.task, tid))):
            self._created_inside(creating, tid, t)
            return
        if slot is not None and claimed:
            child = slot.task
            self._fill(slot, creating, inner)
        else:
            former = self.tasks.get(tid)
            if former is not None:
                self.gone(former, t, "lost")
            child = self._make(tid)
            self.emit(self._create(creating, child, inner))
            if not self.follows:
                del self.tasks[tid]
        if (done := self._vfork_done(creating, child, t)) is not None:
            self.emit(done)
        self._settle()

    def _may_be_inner(self, task: LoggedTask, pid: int) -> bool:
        return pid < task.tid and (pid < _FIRST_PIDS or pid not in self.tasks)

    def _created_inside(self, creating: Creating, value: int, t: int | None) -> None:
        self.seq += 1
        creating.returned, creating.value, creating.t = self.seq, value, t
        if not creating.task.space and value < _FIRST_PIDS and "set_tid" not in creating.call:
            self.is_inside(creating.task)
        creating.place = Place()
        self.queue.append(creating.place)
        self._inner[creating] = None
        if len(self._inner) > _SOUGHT_LIMIT:
            self._give_up()
        self._settle()

    def _give_up(self) -> None:
        self.notices.add("pids of another namespace, too many at once to tell whose they are", self.line)
        self._too_many = True
        for call in self._inner:
            if call.place is not None:
                call.place.void = True
        self._inner.clear()

    @property
    def seeks(self) -> bool:
        """Whether there are calls that returned a pid of another namespace, and whose child is not known."""
        return bool(self._inner)

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
            self._settle()
        elif not task.tid:
            self.name_root(task, tid)

    def waited(self, task: LoggedTask, pid: int, status: int | None, *, returned: bool = True) -> None:
        """A task has waited for a child, or was told of its end, by a pid of its own namespace.

        ``returned``: the line that tells of it was written when that was over.
        """
        # Of whose children these are at least the namespace is the same; of others in it that need not be told.
        own = (c for c in self._inner if c.value == pid and c.task.group is task.group and c.ended is None)
        call = next(own, None)
        if call is not None:
            self.seq += 1
            call.ended = self.seq if returned or self.interleaved else AT_ANY_TIME, status
            self._settle()

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
        numbers = [] if inner is None else [*between, inner]
        if creating.space is None or creator.unshared:
            # Who comes first into a pid namespace is 1 in it (pid_namespaces(7)).
            numbers = [*(numbers or [UNKNOWN_TID] * creator.level), 1]
            creator.unshared = False if creating.space is not None else creator.unshared
        return [child.tid, *numbers] if numbers else None

    def _fill(self, slot: Slot, creating: Creating, inner: int | None = None) -> None:
        """The call made the task."""
        self._unslot(slot)
        self._inner.pop(creating, None)
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

    def _unslot(self, slot: Slot) -> None:
        del self._slots[slot]
        slot.task.slot = None
        if self._slot_of.get(slot.tid) is slot:
            del self._slot_of[slot.tid]

    def _settle(self, *, force: bool = False) -> None:
        """Find creators for tasks that no running call can still explain; with ``force``, for all."""
        if not self._slots or not (force or self.cut_calls):
            return
        few = len(self._slots) * (len(self._inner) + len(self._creating)) <= _PAIRS_LIMIT
        while self._inner and self._slots and (few or force):
            # A call that still runs may return a pid of the log's own: such a one is told apart then.
            calls = [*self._inner, *self._creating]
            could = assigned(list(self._slots), calls, Told(self.ends_told, self._execs_told, self.interleaved))
            told = [(slot, calls[0]) for slot, calls in could.items() if len(calls) == 1 and calls[0] in self._inner]
            if self._too_many:
                told = [(slot, call) for slot, call in told if slot.own == call.value]
            for slot, call in told:
                if call in self._inner and fits(call, slot, _NOTHING_TOLD):  # nobody made who made it
                    self._inside(slot, call)
            if not told:
                if force:
                    self._untold({slot: calls for slot, calls in could.items() if len(calls) > 1})
                elif not self._creating:
                    self._unannounced([slot for slot, calls in could.items() if not calls])
                break
        if force or not (self._creating or self._inner):
            self._unannounced(list(self._slots))

    def _inside(self, slot: Slot, call: Creating) -> None:
        if not call.task.space:
            self.is_inside(call.task)
        self._fill(slot, call, call.value)

    def _untold(self, could: dict[Slot, list[Creating]]) -> None:
        """Give tasks that several calls can have made what all of these have in common."""
        used: dict[Creating, None] = {}
        for slot, calls in could.items():
            first, *others = calls
            used.update(dict.fromkeys(calls))
            if any(call.task is not first.task for call in others) or not fits(first, slot, _NOTHING_TOLD):
                self._begins(slot)
                why = "calls of several tasks can have made it: they return pids of another namespace than the log's"
                self.note("creator", why, slot.t, slot.task)
                continue
            what = "pid inside its namespace"
            if any(call.call != first.call for call in others):
                what = f"call, and {what}"
                for call in calls:
                    call.call, call.flags, call.vfork = {"arch": first.task.arch, "nr": None}, None, False
            self._fill(slot, replace(first, returned=None, began=slot.t))
            why = f"{len(calls)} calls of {first.task.name} can have made it, and the log does not tell which one did"
            self.note(what, why, slot.t, slot.task)
        for number, call in enumerate(used):
            call.value = None
            if number < len(could) and self._inner.pop(call, call) is None and call.place is not None:
                call.place.void = True

    def _unannounced(self, slots: list[Slot]) -> None:
        for slot in slots:
            if (maker := self._only_maker(slot)) is not None:
                self._fill(slot, maker)
                self._creating.pop(maker, None)
                maker.task.creating = None
                if maker in self._abandoned:
                    self._abandoned.remove(maker)
            else:
                self._begins(slot)
                self.notices.add("a task whose creation the log does not show", slot.line)

    def _begins(self, slot: Slot) -> None:
        self._unslot(slot)
        slot.event = Begin(t=slot.t, task=slot.task.id, tid=slot.tid, tgid=slot.tid, how="log")

    def _only_maker(self, slot: Slot) -> Creating | None:
        """The call of unknown result that made the task: of several of one task, what they have in common."""
        before = takewhile(lambda c: c.seq < slot.seq, self._creating)  # they are in that order
        calls = chain(self._abandoned, before)
        could = list(islice((c for c in calls if _may_have_made(c, slot)), _ABANDONED_LIMIT))
        certain = [c for c in could if c.certain and c.task is could[0].task]
        if len(could) == 1 or not certain or any(c.task is not could[0].task for c in could):
            return could[0] if len(could) == 1 else None
        maker = certain[0]
        if any(c.call != maker.call for c in could):
            maker.call = {"arch": maker.task.arch, "nr": None}
        return maker

    # Ends

    def exit(self, task: LoggedTask, t: int | None, status: int | None) -> None:
        """The task ended with this wait status."""
        number = 0 if status is None else status & 0x7F
        if number and task.signal is not None:
            last, code, sender, address = task.signal
            if last == number and code is not None:
                self.emit(Signal(t=t, task=task.id, signal=number, code=code, sender=sender, address=address))
        self.emit(Exit(t=t, task=task.id, status=status))
        if task.slot is not None:
            self.seq += 1
            task.slot.ended = self.seq, status
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
        self._execs_told = True
        self.emit(event)
        self.executing.pop(task, None)
        task.group = task

    def note(self, what: str, why: str, t: int | None, task: LoggedTask | None = None) -> None:
        """Say in the trace that something is not as the log has it."""
        self.emit(Note(t=t, what=what, why=why, task=None if task is None else task.id))

    def finish(self, t: int | None) -> Iterator[Event]:
        """The rest of the events, and the end."""
        for made in self._abandoned:
            if made.certain and self.follows:
                self.notices.add(f"calls of {made.call['library']} whose task the log does not show", made.line)
        for task in list(self.tasks.values()):
            self.gone(task, t, "ended")
        self._settle(force=True)
        for call in self._inner:
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


def _comes_after(task: LoggedTask, slot: Slot) -> bool:
    """Whether the task is known to descend from the one that showed there, and so cannot have made it."""
    place: Place | None = task.shown
    for _ in range(_GENERATIONS):
        if place is None or place is slot:
            break
        place = place.after
    return place is slot


def _may_have_made(creating: Creating, slot: Slot) -> bool:
    library = creating.call.get("library")
    if library is not None and slot.makers is not None and library not in slot.makers:
        return False
    return (creating.until is None or slot.seq <= creating.until) and fits(creating, slot, _NOTHING_TOLD)
