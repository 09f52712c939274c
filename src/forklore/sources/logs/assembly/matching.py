"""Which call made which task: what a log shows of both, kept until it can be told.

A creation that names its child is no question. The others are: one whose result the log does not show, one that
returned a pid of another namespace, and a task that shows before any call that has made it. What decides between them
is in :mod:`forklore.sources.logs.assembly.births`; here is what is kept, and for how long.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice, takewhile
from typing import Any, Final, Protocol

from forklore.abi.flags import CLONE_VFORK
from forklore.sources.logs.assembly.births import AT_ANY_TIME, Told, assigned, fits
from forklore.sources.logs.assembly.tasks import Creating, LoggedTask, Notices, Place, Slot

_ABANDONED_LIMIT: Final = 64
_GENERATIONS: Final = 1024
"""Whose places are still open. Where there are more, no log that strace wrote has them in a circle."""
_SOUGHT_LIMIT: Final = 1024
"""Calls whose child is not found; where there are more, nothing that follows is told by them."""
_TASKS_SOUGHT_LIMIT: Final = 256
_PAIRS_LIMIT: Final = 512
"""Of such calls and tasks, that are looked through at each event."""
NOTHING_TOLD: Final = Told()


class Found(Protocol):
    """Who is told what was found out."""

    def made(self, slot: Slot, creating: Creating, inner: int | None) -> None:
        """The call made the task that shows there, which is ``inner`` in its creator's pid namespace, if not None."""

    def begins(self, slot: Slot) -> None:
        """Nothing in the log made the task."""

    def is_inside(self, task: LoggedTask) -> None:
        """The task's calls return pids of a namespace that nothing in the log announced."""

    def note(self, what: str, why: str, t: int | None, task: LoggedTask) -> None:
        """Of the task, ``what`` is not known, and why."""


class Matching:
    """The calls that make tasks, the tasks that showed, and who of them belong together; ``found`` is told so."""

    def __init__(self, found: Found, notices: Notices) -> None:
        self.seq = 0
        """The order of the log, as far as it tells calls and tasks apart: counts what begins, shows, returns, ends."""
        self.cut_calls = True
        """A call that lasts is in the log before it returns. Not so with ``strace -z``."""
        self.execs_told = False
        """The log has execs."""
        self.ends_told = False
        """The log has lines that tell of the ends of tasks."""
        self.interleaved = False
        """A call's line stands where it returned. In files of ``strace -ff`` put together it stands where it began."""
        self._found = found
        self._notices = notices
        self._slots: OrderedDict[Slot, None] = OrderedDict()
        self._slot_of: dict[int, Slot] = {}
        self._creating: OrderedDict[Creating, None] = OrderedDict()
        self._abandoned: deque[Creating] = deque(maxlen=_ABANDONED_LIMIT)
        self._inner: dict[Creating, None] = {}
        """The calls that returned a pid of another namespace, or one that may be, and whose child is not found."""
        self._too_many = False
        """There were more of these than are kept."""

    # What the log shows

    def next(self) -> int:
        """One more place in the order."""
        self.seq += 1
        return self.seq

    def shows(self, slot: Slot) -> tuple[bool, set[int | None]]:
        """A task showed that nothing has announced. Whether its creator is known by that, and which pid namespaces it
        may be in (see :attr:`LoggedTask.space`), as far as calls whose child is not found can tell.

        :meth:`settle` comes next.
        """
        self._slots[slot] = None
        self._slot_of.setdefault(slot.tid, slot)
        same = next((call for call in self._inner if call.value == slot.tid and not call.task.space), None)
        if same is not None:
            self.match(slot, same)  # a lower pid than its creator's, and the log's own all the same
            return True, set()
        if not self._inner:
            return False, {0}
        some = islice(chain(self._creating, self._inner), 64)
        return False, {call.space for call in some if fits(call, slot, NOTHING_TOLD)}

    def begin(
        self,
        task: LoggedTask,
        t: int | None,
        call: dict[str, Any],
        flags: int | None,
        line: int,
        *,
        again: bool,
        library: bool,
    ) -> Creating:
        """A task makes a creating call; with ``again``, more is known of the one that it is making."""
        vfork = bool((flags or 0) & CLONE_VFORK)
        creating = task.creating
        if creating is not None and (again or (creating.library and not library)):
            creating.call, creating.flags, creating.vfork, creating.library = call, flags, vfork, False
            return creating
        self.abandon(task)
        # Of a whole line in a log without cut calls it is known only that the call began after the task's last one.
        seq = self.next()
        began = task.seen if again and not self.cut_calls else seq
        creating = Creating(task, began, t, call, flags, vfork, line, library)
        task.creating = creating
        self._creating[creating] = None
        return creating

    def ends(self, creating: Creating) -> None:
        """The call does not run any more."""
        self._creating.pop(creating, None)
        creating.task.creating = None

    def drop(self, creating: Creating) -> None:
        """The call made no task."""
        self.ends(creating)
        self.settle()

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
        self.ends(creating)
        self._abandoned.append(creating)
        self.settle()
        return True

    def abandon(self, task: LoggedTask) -> None:
        """The log shows no end of the call that the task was making: it may have made a task or not."""
        creating = task.creating
        if creating is not None:
            self.ends(creating)
            self._abandoned.append(creating)
            if not creating.certain:
                self._notices.add("a creation whose result the log does not show", creating.line)
            self.settle()

    def claims(self, creating: Creating, tid: int) -> Slot | None:
        """Where the task with that tid showed that the call can have made."""
        slot = self._slot_of.get(tid)
        if slot is None or not fits(creating, slot, NOTHING_TOLD) or _comes_after(creating.task, slot):
            return None
        return slot

    def made_inside(self, creating: Creating, value: int, t: int | None, place: Place, line: int) -> None:
        """The call returned a pid that may be one of another namespace; ``place`` is where.

        :meth:`settle` comes next.
        """
        creating.returned, creating.value, creating.t = self.next(), value, t
        creating.place = place
        self._inner[creating] = None
        if len(self._inner) > _SOUGHT_LIMIT:
            self._give_up(line)

    def _give_up(self, line: int) -> None:
        self._notices.add("pids of another namespace, too many at once to tell whose they are", line)
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
    def sought(self) -> Iterable[Creating]:
        """These calls."""
        return self._inner

    def waited(self, task: LoggedTask, pid: int, status: int | None, *, returned: bool) -> None:
        """A task has waited for a child, or was told of its end, by a pid of its own namespace.

        ``returned``: the line that tells of it was written when that was over.
        """
        # Of whose children these are at least the namespace is the same; of others in it that need not be told.
        own = (c for c in self._inner if c.value == pid and c.task.group is task.group and c.ended is None)
        call = next(own, None)
        if call is not None:
            seq = self.next()
            call.ended = seq if returned or self.interleaved else AT_ANY_TIME, status
            self.settle()

    def ended(self, task: LoggedTask, status: int | None) -> None:
        """A task ended with this wait status."""
        if task.slot is not None:
            task.slot.ended = self.next(), status

    # What is concluded

    def forget(self, slot: Slot) -> None:
        """It is known where the task comes from."""
        del self._slots[slot]
        slot.task.slot = None
        if self._slot_of.get(slot.tid) is slot:
            del self._slot_of[slot.tid]

    def match(self, slot: Slot, creating: Creating, inner: int | None = None) -> None:
        """The call made the task that shows there, ``inner`` in its creator's pid namespace if that is another."""
        self.forget(slot)
        self._inner.pop(creating, None)
        self._found.made(slot, creating, inner)

    def settle(self, *, force: bool = False) -> None:
        """Find creators for tasks that no running call can still explain; with ``force``, for all."""
        if not self._slots or not (force or self.cut_calls):
            return
        few = len(self._slots) * (len(self._inner) + len(self._creating)) <= _PAIRS_LIMIT
        while self._inner and self._slots and (few or force):
            # A call that still runs may return a pid of the log's own: such a one is told apart then.
            calls = [*self._inner, *self._creating]
            could = assigned(list(self._slots), calls, Told(self.ends_told, self.execs_told, self.interleaved))
            told = [(slot, calls[0]) for slot, calls in could.items() if len(calls) == 1 and calls[0] in self._inner]
            if self._too_many:
                told = [(slot, call) for slot, call in told if slot.own == call.value]
            for slot, call in told:
                if call in self._inner and fits(call, slot, NOTHING_TOLD):  # nobody made who made it
                    self._inside(slot, call)
            if not told:
                if force:
                    self._untold({slot: calls for slot, calls in could.items() if len(calls) > 1})
                elif not self._creating:
                    self._unannounced([slot for slot, calls in could.items() if not calls])
                break
        if force or not (self._creating or self._inner):
            self._unannounced(list(self._slots))

    @property
    def crowded(self) -> bool:
        """Whether more tasks wait for their creators than are looked through at each event."""
        return bool(self._inner) and len(self._slots) > _TASKS_SOUGHT_LIMIT

    def _inside(self, slot: Slot, call: Creating) -> None:
        if not call.task.space:
            self._found.is_inside(call.task)
        self.match(slot, call, call.value)

    def _untold(self, could: dict[Slot, list[Creating]]) -> None:
        """Give tasks that several calls can have made what all of these have in common."""
        used: dict[Creating, None] = {}
        for slot, calls in could.items():
            first, *others = calls
            used.update(dict.fromkeys(calls))
            if any(call.task is not first.task for call in others) or not fits(first, slot, NOTHING_TOLD):
                self._begins(slot)
                why = "calls of several tasks can have made it: they return pids of another namespace than the log's"
                self._found.note("creator", why, slot.t, slot.task)
                continue
            what = "pid inside its namespace"
            if any(call.call != first.call for call in others):
                what = f"call, and {what}"
                for call in calls:
                    call.call, call.flags, call.vfork = {"arch": first.task.arch, "nr": None}, None, False
            self.match(slot, replace(first, returned=None, began=slot.t))
            why = f"{len(calls)} calls of {first.task.name} can have made it, and the log does not tell which one did"
            self._found.note(what, why, slot.t, slot.task)
        for number, call in enumerate(used):
            call.value = None
            if number < len(could) and self._inner.pop(call, call) is None and call.place is not None:
                call.place.void = True

    def _unannounced(self, slots: list[Slot]) -> None:
        for slot in slots:
            if (maker := self._only_maker(slot)) is not None:
                self.match(slot, maker)
                self.ends(maker)
                if maker in self._abandoned:
                    self._abandoned.remove(maker)
            else:
                self._begins(slot)
                self._notices.add("a task whose creation the log does not show", slot.line)

    def _begins(self, slot: Slot) -> None:
        self.forget(slot)
        self._found.begins(slot)

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

    def without_task(self) -> Iterator[Creating]:
        """The calls of functions that return no pid and whose task the log does not show."""
        return (made for made in self._abandoned if made.certain)


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
    return (creating.until is None or slot.seq <= creating.until) and fits(creating, slot, NOTHING_TOLD)
