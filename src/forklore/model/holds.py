"""Which object of each resource a task holds, from when to when, kept for very many tasks.

A task's hold on a resource is a list of :class:`Hold`, one after the other, each in one group. All tasks in a group at
one time share the object. Groups have numbers within a trace; views give them letters.

Most tasks of a long trace began alike and changed nothing, so what they began with is kept once for all of them, and
:class:`Hold` is made of it when it is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Final, Literal

from msgspec import Struct

from forklore.abi.resources import NAMESPACES, OBJECTS
from forklore.abi.units import Nanoseconds, TaskId

How = Literal["kcmp", "/proc", "rule", "flag"]
"""How a hold is known: observed by kcmp(2) or /proc, derived from a named rule, or only asked for by a flag."""

RESOURCES: Final = (*OBJECTS, *NAMESPACES)
"""Every resource that tasks are grouped by, in the order in which views show them."""

_PLACE: Final = {name: index for index, name in enumerate(RESOURCES)}


class Hold(Struct, frozen=True, gc=False):
    """One task's hold on one object of a resource. ``until`` None: to the end of the trace, or not known."""

    resource: str
    group: int
    since: Nanoseconds | None
    how: How
    until: Nanoseconds | None = None
    ended_by: str | None = None
    """exec, unshare, setns, close_range, exit: what ended it."""
    inode: int | None = None
    """Of a namespace, where it was read."""


First = tuple[int | None, How, int | None]
"""What a task begins with of one resource: a group, None for one of its own; how that is known; its inode."""
Firsts = tuple[tuple[int, How, int | None], ...]
"""One for each of :data:`RESOURCES`, in their order. The groups of a task's own are -1, -2 and so on."""


class _Move(Struct, gc=False):
    # A task left what it held of a resource, and has been in another group since.
    place: int
    t: Nanoseconds | None
    cause: str
    group: int
    how: How
    inode: int | None


class _Holding(Struct, gc=False):
    # What one task held. Its own groups are those behind ``before``.
    since: Nanoseconds | None
    firsts: Firsts
    before: int
    moves: tuple[list[_Move], ...] = ()
    """Of each resource that it left, in order."""
    over: bool = False
    ended: Nanoseconds | None = None

    def moved(self, place: int) -> Sequence[_Move]:
        """Where it went of one resource."""
        return next((moves for moves in self.moves if moves[0].place == place), ())

    def first(self, place: int) -> int:
        """The group of what it began with."""
        group = self.firsts[place][0]
        return group if group > 0 else self.before - group

    def group(self, place: int) -> int:
        """The group that it was in last."""
        moves = self.moved(place)
        return moves[-1].group if moves else self.first(place)

    def begun(self) -> list[int]:
        """The groups of what it began with, one for each resource."""
        before = self.before
        return [group if group > 0 else before - group for group, _how, _inode in self.firsts]

    def groups(self) -> list[int]:
        """The groups that it was in last, one for each resource."""
        found = self.begun()
        for moves in self.moves:
            found[moves[-1].place] = moves[-1].group
        return found

    def holds(self, place: int) -> Iterator[Hold]:
        """One after the other."""
        resource = RESOURCES[place]
        _, how, inode = self.firsts[place]
        group, since = self.first(place), self.since
        for move in self.moved(place):
            yield Hold(resource, group, since, how, move.t, move.cause, inode)
            group, since, how, inode = move.group, move.t, move.how, move.inode
        until, ended_by = self.ending
        yield Hold(resource, group, since, how, until, ended_by, inode)

    @property
    def ending(self) -> tuple[Nanoseconds | None, str | None]:
        """When what it held last was over, and by what."""
        return (self.ended, "exit") if self.over else (None, None)


class Holdings:
    """What every task held and holds."""

    def __init__(self) -> None:
        self._of: dict[TaskId, _Holding] = {}
        self._firsts: dict[Firsts, Firsts] = {}
        """One tuple for all that began alike."""
        self._holders: dict[int, int] = {}
        """How many hold the object of a group now. One without a number has the holder that it began with, or none."""
        self._last = 0

    def __contains__(self, task: TaskId) -> bool:
        return task in self._of

    def new_group(self) -> int:
        """The number of a group that nobody is in yet, and that others may enter."""
        self._last += 1
        self._holders[self._last] = 0
        return self._last

    def begin(self, task: TaskId, t: Nanoseconds | None, firsts: Iterable[First]) -> Firsts:
        """What a task holds first. The same for all that began alike: for :meth:`begin_alike`."""
        own = count(-1, -1)
        found = tuple((next(own) if group is None else group, how, inode) for group, how, inode in firsts)
        found = self._firsts.setdefault(found, found)
        self.begin_alike(task, t, found)
        return found

    def begin_alike(self, task: TaskId, t: Nanoseconds | None, firsts: Firsts) -> None:
        """What a task holds first, which is what another began with; groups of its own are its own."""
        own, holders = 0, self._holders
        for group, _how, _inode in firsts:
            if group > 0:
                holders[group] = holders.get(group, 0) + 1
            else:
                own -= 1
        self._of[task] = _Holding(t, firsts, self._last)
        self._last -= own

    def holds(self, task: TaskId) -> dict[str, list[Hold]]:
        """Of each resource, one after the other; nothing of a task that is not known."""
        found = self._of.get(task)
        if found is None:
            return {}
        since, (until, ended_by) = found.since, found.ending
        holds = {
            name: [Hold(name, group, since, how, until, ended_by, inode)]
            for name, group, (_, how, inode) in zip(RESOURCES, found.begun(), found.firsts, strict=True)
        }
        for moves in found.moves:
            place = moves[0].place
            holds[RESOURCES[place]] = list(found.holds(place))
        return holds

    def first(self, task: TaskId, resource: str) -> Hold:
        """What a task that is known began with of a resource."""
        return next(self._of[task].holds(_PLACE[resource]))

    def groups(self, task: TaskId) -> list[list[int]]:
        """Of each of :data:`RESOURCES` the groups that a task was in, one after the other."""
        found = self._of.get(task)
        if found is None:
            return [[] for _ in RESOURCES]
        if not found.moves:
            return [[group] for group in found.groups()]
        return [[found.first(place), *(move.group for move in found.moved(place))] for place, _ in enumerate(RESOURCES)]

    def of_one_group(self) -> set[str]:
        """The resources of which all tasks have held one object all the time."""
        first: dict[int, int] = {}
        several: set[int] = set()
        alike: Counter[int] = Counter()
        for found in self._of.values():
            kind = id(found.firsts)
            alike[kind] += 1
            if alike[kind] <= 2:  # what they have of their own differs between two, and the rest is the same in all
                for place, group in enumerate(found.begun()):
                    if group != first.setdefault(place, group):
                        several.add(place)
            for moves in found.moves:
                place = moves[0].place
                if place not in several and any(move.group != first[place] for move in moves):
                    several.add(place)
        return {name for place, name in enumerate(RESOURCES) if place not in several}

    def group(self, task: TaskId, resource: str) -> int | None:
        """The group that a task is in, or was in last; None where the task is not known."""
        found = self._of.get(task)
        return None if found is None else found.group(_PLACE[resource])

    def over(self, task: TaskId) -> bool:
        """Whether it holds nothing any more, or is not known."""
        found = self._of.get(task)
        return found is None or found.over

    def enterable(self, task: TaskId, resource: str) -> int:
        """The group of what a task holds, or held last: others may enter it from now on."""
        found = self._of[task]
        group = found.group(_PLACE[resource])
        if not found.over:
            self._holders.setdefault(group, 1)
        return group

    def shared(self, task: TaskId, resource: str) -> bool:
        """Whether others hold now what a task holds."""
        found = self._of.get(task)
        return found is not None and not found.over and self._holders.get(found.group(_PLACE[resource]), 1) > 1

    def partners(self, task: TaskId) -> Mapping[str, Sequence[TaskId]]:
        """By resource, who holds now what a task holds. Looks through all tasks."""
        found = self._of.get(task)
        if found is None or found.over:
            return {}
        mine = found.groups()
        partners: dict[str, list[TaskId]] = {name: [] for name in RESOURCES}
        for other, held in self._of.items():
            if held.over or held is found:
                continue
            for name, group, theirs in zip(RESOURCES, mine, held.groups(), strict=True):
                if group == theirs:
                    partners[name].append(other)
        return partners

    def move(self, task: TaskId, resource: str, t: Nanoseconds | None, cause: str, to: First) -> None:
        """A task that has not ended leaves what it holds for something else."""
        found, place = self._of[task], _PLACE[resource]
        group, how, inode = to
        self._leave(found.group(place))
        if group is None:
            self._last += 1
            group = self._last
        else:
            self._holders[group] = self._holders.get(group, 0) + 1
        before, move = found.moved(place), _Move(place, t, cause, group, how, inode)
        if isinstance(before, list):
            before.append(move)
        else:
            found.moves = (*found.moves, [move])

    def inode(self, task: TaskId, resource: str) -> int | None:
        """Of the namespace that a task holds or held last; None where it was not read."""
        found, place = self._of.get(task), _PLACE[resource]
        if found is None:
            return None
        moves = found.moved(place)
        return moves[-1].inode if moves else found.firsts[place][2]

    def learn(self, task: TaskId, resource: str, inode: int) -> int:
        """The inode of what a task holds has been read; the group of it, which others may enter from now on."""
        found, place = self._of[task], _PLACE[resource]
        if moves := found.moved(place):
            moves[-1].inode = inode
        else:
            group, how = found.first(place), found.firsts[place][1]
            changed = (*found.firsts[:place], (group, how, inode), *found.firsts[place + 1 :])
            found.firsts = self._firsts.setdefault(changed, changed)
        return self.enterable(task, resource)

    def end(self, task: TaskId, t: Nanoseconds | None) -> None:
        """A task ends, and so all that it holds."""
        found = self._of.get(task)
        if found is None or found.over:
            return
        for group in found.groups():
            self._leave(group)
        found.over, found.ended = True, t

    def forget(self, task: TaskId) -> None:
        """Nothing is asked any more of a task that ended."""
        self._of.pop(task, None)

    def _leave(self, group: int) -> None:
        left = self._holders.get(group, 0) - 1
        if left > 0:
            self._holders[group] = left
        else:
            self._holders.pop(group, None)
