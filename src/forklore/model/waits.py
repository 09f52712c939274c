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

from msgspec import Struct, field

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
    waits: dict[int, list[Wait]] = field(default_factory=dict)
    """By the number of the moment that came after."""
    ends: dict[TaskId, int] = field(default_factory=dict)
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


Key = tuple[int, int, int]
"""The time, the task, and which of the task's own moments it is: creators have lower numbers than what they made."""


class _Reading:
    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._keys: dict[TaskId, list[Key]] = {}
        self._whats: dict[TaskId, list[What]] = {}
        self._released: dict[TaskId, Key] = {}
        self._numbers: dict[Key, int] = {}
        self._found = Waits([])

    def read(self) -> Waits:
        for task in self._trace.tasks.values():
            own = _own(task, self._trace)
            keys: list[Key] = [(each[0], task.id, index) for index, each in enumerate(own)]
            self._keys[task.id] = keys
            self._whats[task.id] = [what for _, _, what, _ in own]
            self._released |= {child: key for key, (_, _, _, child) in zip(keys, own, strict=True) if child}
        order = sorted(key for keys in self._keys.values() for key in keys)
        self._numbers = {key: number for number, key in enumerate(order)}
        for t, number, index in order:
            task_id = TaskId(number)
            before = self._numbers[self._keys[task_id][index - 1]] if index else None
            moment = Moment(task_id, self._whats[task_id][index], Nanoseconds(t), before)
            self._found.ends[task_id] = len(self._found.moments)
            self._found.moments.append(moment)
        for task in self._trace.tasks.values():
            self._others(task)
        self._pipes()
        return self._found

    def _others(self, task: Task) -> None:
        creator = self._trace.tasks[task.creator] if task.creator is not None else None
        begin, end = self._keys[task.id][0], self._keys[task.id][-1]
        if creator is not None:
            self._came_after(begin, self._last(creator.id, begin), "created", sure=True)
            if (released := self._released.get(task.id)) is not None:
                self._came_after(released, self._last(task.id, released), "vfork", sure=True)
        if task.death is None:
            return
        if task.kind == "thread":
            leader = self._trace.tasks[task.leader] if task.leader is not None else None
            following = None if creator is None else self._next(creator.id, end)
            if following is None and leader is not None:
                following = self._next(leader.id, end)
            late = leader is None or leader.ended is None or leader.ended - end[0] <= _TOGETHER
            if not (late and self._is_end(following)):
                self._came_after(following, end, "join")
        elif task.parent is not None and not task.reapers:
            parent = self._trace.tasks[task.parent]
            reaped = task.reaped[0] if task.reaped else None
            if reaped is not None and reaped.how in _NOT_AWAITED:
                return
            waiter = creator if creator is not None and creator.leader == parent.leader else parent
            moment = self._next(waiter.id, end)
            sure = False
            if reaped is not None and moment is not None:
                sure = reaped.how in _TAKEN and (reaped.t or 0) <= moment[0]
            self._came_after(moment, end, "wait", sure=sure)

    def _pipes(self) -> None:
        for pipe in pipes(self._trace):
            both = {holder.task for holder in pipe.readers} & {holder.task for holder in pipe.writers}
            # Who holds both ends sees no end of the data. A creator that was looked at when its child executed closes
            # its own ends, as a rule, as soon as it has made the children.
            writers = [holder.task for holder in pipe.writers if holder.executed and holder.task not in both]
            ends = [self._keys[task][-1] for task in writers if self._trace.tasks[task].death is not None]
            if not ends or len(ends) < len(writers):
                continue
            last = max(ends)
            for reader in {holder.task for holder in pipe.readers} - both:
                self._came_after(self._next(reader, last), last, "pipe")

    def _came_after(self, later: Key | None, earlier: Key | None, why: Why, *, sure: bool = False) -> None:
        if later is None or earlier is None or earlier >= later:
            return
        self._found.waits.setdefault(self._numbers[later], []).append(Wait(self._numbers[earlier], why, sure))

    def _next(self, task: TaskId, key: Key) -> Key | None:
        keys = self._keys[task]
        index = bisect_right(keys, key)
        return keys[index] if index < len(keys) else None

    def _last(self, task: TaskId, key: Key) -> Key | None:
        keys = self._keys[task]
        index = bisect_right(keys, key)
        return keys[index - 1] if index else None

    def _is_end(self, key: Key | None) -> bool:
        return key is not None and self._whats[TaskId(key[1])][key[2]] == "end"


_RANK: Final[dict[What, int]] = {"begin": 0, "made": 1, "released": 2, "call": 3, "exec": 4, "end": 5}
"""The order of what a task did at one time."""


def _own(task: Task, trace: Trace) -> list[tuple[Nanoseconds, int, What, TaskId | None]]:
    """When a task was seen to do what, in the order of time; the child that let it go, where it was held."""
    assert task.created is not None

    def at(t: Nanoseconds, what: What, child: TaskId | None = None) -> tuple[Nanoseconds, int, What, TaskId | None]:
        return max(t, begin), _RANK[what], what, child

    begin = task.created
    found = [at(begin, "begin")]
    for number in task.children:
        child = trace.tasks[number]
        if child.creator == task.id and child.created is not None:
            found.append(at(child.created, "made"))
            if child.vfork_released is not None:
                found.append(at(child.vfork_released, "released", number))
    seen: list[tuple[Nanoseconds | None, What]] = [(failure.t, "call") for failure in task.failures]
    seen += [(call.t, "call") for call in task.calls]
    seen += [(failed.t, "call") for failed in task.failed_execs]
    for image in task.images:
        seen.append((image.began, "call"))
        seen.append((image.t, "exec"))
    found += [at(t, what) for t, what in seen if t is not None]
    ended = task.ended if task.ended is not None else trace.ended
    last = max(each[0] for each in found)
    found.append(at(last if ended is None else max(last, ended), "end"))
    return sorted(found, key=lambda each: each[:2])
