"""Which tasks hold one and the same object, by a three-way comparison, in n log n comparisons.

A comparison that only said "same or not" would need every pair. One that also orders, as kcmp(2) does, lets the
groups found so far stand in a sorted list, in which each task finds its own by halving.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct, field

from forklore.abi.kcmp import Order
from forklore.abi.units import Tid, Unavailable

Compare = Callable[[Tid, Tid], int | Unavailable]
"""How the first task's object sorts against the second's (:class:`~forklore.abi.kcmp.Order`), or why that cannot be
told. A number that is none of these counts as unequal, in no known order."""


class ObjectGroup(Struct, frozen=True):
    """The tasks that hold one object."""

    letter: str
    """A, B, … Z, AA, … in the order of the groups' first members."""
    members: tuple[Tid, ...]
    """In the order in which they were given."""


class Grouping(Struct, frozen=True):
    """All tasks in their groups, for one kind of object."""

    groups: tuple[ObjectGroup, ...]
    unset: tuple[Tid, ...]
    """The tasks that have no such object at all."""
    unknown: dict[Tid, Unavailable]
    """The tasks that could not be compared, and why."""
    comparisons: int
    """How many it took."""

    def letters(self) -> dict[Tid, str]:
        """The letter of each task that is in a group."""
        return {tid: group.letter for group in self.groups for tid in group.members}


def letter(index: int) -> str:
    """A for 0, Z for 25, AA for 26, as a spreadsheet has its columns."""
    text = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        text = chr(ord("A") + digit) + text
    return text


def group(
    tasks: Iterable[Tid],
    compare: Compare,
    *,
    near: Mapping[Tid, Tid] | None = None,
    without: Tid | None = None,
) -> Grouping:
    """Group tasks by the object that they hold.

    With k groups, n tasks take at most n * (ceil(log2 k) + 1) comparisons; one more for each task that ``near`` sends
    to the wrong place. ``near``: a task that it probably shares with, which is asked first (a thread's leader).
    ``without``: a task that is known to have no such object. A task that cannot be compared costs two; a group whose
    witness ended costs up to three, and as many as it has members at most over all.
    """
    return _Sorter(compare, near or {}, without).all(tasks)


class _Found(Struct, eq=False):
    """A group that grows."""

    members: list[Tid]
    witness: Tid
    """The member that the others are compared with: one that was there when it was last asked."""
    unset: bool = False


class _Sorter(Struct):
    compare: Compare
    near: Mapping[Tid, Tid]
    without: Tid | None
    comparisons: int = 0
    order: list[_Found] = field(default_factory=list)
    """The groups with a witness, sorted by their objects."""
    apart: list[_Found] = field(default_factory=list)
    """Groups that have a witness, but no known place in the order."""
    of: dict[Tid, _Found] = field(default_factory=dict)
    found: list[_Found] = field(default_factory=list)
    unknown: dict[Tid, Unavailable] = field(default_factory=dict)

    def all(self, tasks: Iterable[Tid]) -> Grouping:
        if self.without is not None:
            self.order.append(_Found([], self.without, unset=True))
        for task in dict.fromkeys(tasks):
            self.place(task)
        named = [found for found in self.found if not found.unset]
        groups = tuple(ObjectGroup(letter(index), tuple(found.members)) for index, found in enumerate(named))
        unset = next((tuple(found.members) for found in self.found if found.unset), ())
        return Grouping(groups, unset, self.unknown, self.comparisons)

    def ask(self, task: Tid, other: Tid) -> int | Unavailable:
        self.comparisons += 1
        return self.compare(task, other)

    def place(self, task: Tid) -> None:
        if not self.order and not self.apart and isinstance(own := self.ask(task, task), Unavailable):
            self.unknown[task] = own  # compared with nobody, it would stand for a group unseen
            return
        low, high, unordered = 0, len(self.order), False
        probe = self.hint(task)
        while low < high:
            middle = (low + high) // 2 if probe is None else probe
            probe = None
            answer = self.ask(task, self.order[middle].witness)
            if isinstance(answer, Unavailable):
                if not self.witness_is_lost(task, self.order[middle], answer):
                    return
                high -= self.replace_witness(middle)
            elif answer == Order.EQUAL:
                self.join(task, self.order[middle])
                return
            elif answer == Order.LESS:
                high = middle
            elif answer == Order.GREATER:
                low = middle + 1
            else:
                unordered = True
                break
        if self.among(task, [*self.apart, *self.order] if unordered else list(self.apart)):
            return
        fresh = _Found([], task)
        if unordered:
            self.apart.append(fresh)
        else:
            self.order.insert(low, fresh)
        self.join(task, fresh)

    def hint(self, task: Tid) -> int | None:
        beside = self.of.get(self.near.get(task, task))
        if beside is None or beside not in self.order:
            return None
        return self.order.index(beside)

    def witness_is_lost(self, task: Tid, found: _Found, refusal: Unavailable) -> bool:
        # A refusal does not say which of the two it is about. Compared with itself, a task can only be refused for
        # its own end or its own protection.
        own = self.ask(task, task)
        if isinstance(own, Unavailable):
            self.unknown[task] = own
            return False
        if isinstance(self.ask(found.witness, found.witness), Unavailable):
            return True
        self.unknown[task] = refusal
        return False

    def replace_witness(self, place: int) -> int:
        # How many places the order lost: the next member speaks for a group, until nobody is left who can.
        found = self.order[place]
        after = found.members.index(found.witness) + 1 if found.members and not found.unset else 0
        for member in found.members[after:]:
            if not isinstance(self.ask(member, member), Unavailable):
                found.witness = member
                return 0
        del self.order[place]
        return 1

    def among(self, task: Tid, groups: list[_Found]) -> bool:
        for each in groups:
            if self.ask(task, each.witness) == Order.EQUAL:
                self.join(task, each)
                return True
        return False

    def join(self, task: Tid, found: _Found) -> None:
        if not found.members:
            self.found.append(found)
        found.members.append(task)
        self.of[task] = found
