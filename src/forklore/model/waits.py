"""Who waited for whom: the moments at which a task is known to have run, and what each of them came after.

A moment of a task comes after the one before it in the same task. It can come after what others did as well:

- after the call that made the task (``created``), and, for a creator in vfork, after the exec or end of the child
  (``vfork``, kernel/fork.c: wait_for_vfork_done): the trace knows these;
- after the end of a child whose status it took (``wait``): the trace knows it where it has seen what became of the
  zombie, and before the moment. Of a child that nobody was seen to wait for, as in a log, time suggests it; one whose
  parent ignores SIGCHLD, or never waited for it, is not waited for.
- after the end of a thread that it made (``join``), and after the end of the last task that wrote to a pipe that it
  reads (``pipe``): that the end was what it waited for is what time suggests. Calls of read(2) and futex(2) are not
  traced, for programs make millions of them.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, Literal

from msgspec import Struct

from forklore.abi.units import Nanoseconds, TaskId
from forklore.events.records import ReapHow
from forklore.model.pipes import pipes
from forklore.model.tasks import Task, Trace
from forklore.model.timing import FINE

Why = Literal["created", "vfork", "wait", "join", "pipe"]
What = Literal["begin", "made", "released", "call", "exec", "end"]

_TAKEN: Final[frozenset[ReapHow]] = frozenset({"waited", "at once"})
"""A parent that did so had waited. ``at once`` leaves SA_NOCLDWAIT open, with which wait(2) returns after the last."""
_NOT_AWAITED: Final[frozenset[ReapHow]] = frozenset({"ignored", "left", "stands"})
_TOGETHER: Final = 2_000_000
"""In nanoseconds: a thread that ended so shortly before its process may have been ended by it."""


class Moment(Struct, gc=False):
    """A task was seen to do something."""

    task: TaskId
    what: What
    t: Nanoseconds
    before: int | None
    """The number of the task's moment before this one."""


class Wait(Struct, frozen=True, gc=False):
    """What a moment came after, besides the one before it."""

    moment: int
    """The number of the other one, which is lower than that of the moment itself."""
    why: Why
    sure: bool
    """The trace knows it; False: time suggests it."""


class Waits(Struct):
    """The moments of a trace in the order of time, which is the order of their numbers."""

    moments: list[Moment]
    waits: dict[int, list[Wait]]
    """By the number of the moment that came after."""
    ends: dict[TaskId, int]
    """The number of each task's last moment."""


class Untimed(Struct, frozen=True):
    """Why it is not known who waited for whom."""

    why: str


def waits(trace: Trace) -> Waits | Untimed:
    """All moments of a trace, and what they came after."""
    tasks = trace.tasks.values()
    if any(task.created is None for task in tasks):
        return Untimed("the trace has no times")
    if any(task.coarse > FINE for task in tasks):
        return Untimed("its times are too coarse to tell what came first")
    return _Reading(trace).read()


class _Reading:
    # The moments of all tasks lie one behind the other, those of a task in order. At each place ``_ranks`` has the
    # number of the moment there, so that the numbers of a task rise and can be searched.

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._places: dict[TaskId, range] = {}
        self._whats: list[What] = []
        self._released: dict[TaskId, int] = {}
        """The place of the moment at which a child of vfork let its creator go."""
        self._times: list[Nanoseconds] = []
        self._ranks: list[int] = []
        self._waits: dict[int, list[Wait]] = {}

    def read(self) -> Waits:
        times = self._times
        whose: list[TaskId] = []
        whats = self._whats
        for task in self._trace.tasks.values():
            place = len(times)
            for t, rank, child in _own(task, self._trace):
                if child:
                    self._released[child] = len(times)
                times.append(t)
                whats.append(_WHATS[rank])
            self._places[task.id] = range(place, len(times))
            whose += [task.id] * (len(times) - place)
        # Stable: at one time, creators come before what they made.
        order = sorted(range(len(times)), key=times.__getitem__)
        ranks = self._ranks = [0] * len(order)
        for number, place in enumerate(order):
            ranks[place] = number
        firsts = {places.start for places in self._places.values()}
        moments = [
            Moment(whose[place], whats[place], times[place], None if place in firsts else ranks[place - 1])
            for place in order
        ]  # fmt: skip
        for task in self._trace.tasks.values():
            self._others(task)
        self._pipes()
        ends = {task: ranks[places[-1]] for task, places in self._places.items()}
        return Waits(moments, self._waits, ends)

    def _others(self, task: Task) -> None:
        creator = self._trace.tasks[task.creator] if task.creator is not None else None
        places, ranks = self._places[task.id], self._ranks
        end = ranks[places[-1]]
        if creator is not None:
            begin = ranks[places.start]
            self._came_after(begin, self._last(creator.id, begin), "created", sure=True)
            if (place := self._released.get(task.id)) is not None:
                released = ranks[place]
                self._came_after(released, self._last(task.id, released), "vfork", sure=True)
        if task.death is None:
            return
        if task.kind == "thread":
            leader = self._trace.tasks[task.leader] if task.leader is not None else None
            following = None if creator is None else self._next(creator.id, end)
            if following is None and leader is not None:
                following = self._next(leader.id, end)
            late = leader is None or leader.ended is None or leader.ended - self._times[places[-1]] <= _TOGETHER
            if following is not None and not (late and self._whats[following] == "end"):
                self._came_after(ranks[following], end, "join")
        elif task.parent is not None and not task.reapers:
            parent = self._trace.tasks[task.parent]
            reaped = task.reaped[0] if task.reaped else None
            if reaped is not None and reaped.how in _NOT_AWAITED:
                return
            waiter = creator if creator is not None and creator.leader == parent.leader else parent
            place = self._next(waiter.id, end)
            if place is None:
                return
            sure = reaped is not None and reaped.how in _TAKEN and (reaped.t or 0) <= self._times[place]
            self._came_after(ranks[place], end, "wait", sure=sure)

    def _pipes(self) -> None:
        for pipe in pipes(self._trace):
            both = {holder.task for holder in pipe.readers} & {holder.task for holder in pipe.writers}
            # Who holds both ends sees no end of the data. A creator that was looked at when its child executed closes
            # its own ends, as a rule, as soon as it has made the children.
            writers = [holder.task for holder in pipe.writers if holder.executed and holder.task not in both]
            ends = [
                self._ranks[self._places[task][-1]] for task in writers if self._trace.tasks[task].death is not None
            ]
            if not ends or len(ends) < len(writers):
                continue
            last = max(ends)
            for reader in {holder.task for holder in pipe.readers} - both:
                place = self._next(reader, last)
                if place is not None:
                    self._came_after(self._ranks[place], last, "pipe")

    def _came_after(self, later: int, earlier: int | None, why: Why, *, sure: bool = False) -> None:
        if earlier is not None and earlier < later:
            self._waits.setdefault(later, []).append(Wait(earlier, why, sure))

    def _next(self, task: TaskId, number: int) -> int | None:
        """The place of a task's first moment after that one."""
        places = self._places[task]
        place = bisect_right(self._ranks, number, places.start, places.stop)
        return place if place < places.stop else None

    def _last(self, task: TaskId, number: int) -> int | None:
        """The number of a task's last moment up to that one."""
        places = self._places[task]
        place = bisect_right(self._ranks, number, places.start, places.stop)
        return self._ranks[place - 1] if place > places.start else None


_WHATS: Final[tuple[What, ...]] = ("begin", "made", "released", "call", "exec", "end")
"""In the order of what a task did at one time."""
_BEGIN, _MADE, _RELEASED, _CALL, _EXEC, _END = range(6)


def _own(task: Task, trace: Trace) -> list[tuple[Nanoseconds, int, TaskId]]:
    """When a task was seen to do what, in the order of time; the child that let it go where it was held, else 0."""
    assert task.created is not None
    begin, tasks, nobody = task.created, trace.tasks, TaskId(0)
    found = [(begin, _BEGIN, nobody)]
    for number in task.children:
        child = tasks[number]
        if child.creator == task.id and child.created is not None:
            found.append((max(child.created, begin), _MADE, nobody))
            if child.vfork_released is not None:
                found.append((max(child.vfork_released, begin), _RELEASED, number))
    for seen in (task.failures, task.calls, task.failed_execs):
        if seen:
            found += [(max(each.t, begin), _CALL, nobody) for each in seen if each.t is not None]
    for image in task.images:
        if image.began is not None:
            found.append((max(image.began, begin), _CALL, nobody))
        if image.t is not None:
            found.append((max(image.t, begin), _EXEC, nobody))
    found.sort()
    last = found[-1][0]
    ended = task.ended if task.ended is not None else trace.ended
    found.append((last if ended is None else max(last, ended), _END, nobody))
    return found
