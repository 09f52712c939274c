"""Who holds an object together with whom now.

What a member holds is a :data:`Held`: for each kind of object the set of those that hold the same one. They all have
that one set, so it is current for whoever keeps it. What a member has alone need not be there.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Set
from typing import Generic, TypeVar

Member = TypeVar("Member", bound=Hashable)
What = TypeVar("What", bound=Hashable)

Held = dict[What, set[Member]]


def join(member: Member, mine: Held[What, Member], other: Member, theirs: Held[What, Member],
         whats: Iterable[What]) -> None:  # fmt: skip
    """``member``, which holds ``mine``, holds ``other``'s objects of these kinds from now on."""
    for what in whats:
        holders = theirs.get(what)
        if holders is None:
            holders = theirs[what] = {other}
        if what in mine:
            mine[what].discard(member)
        holders.add(member)
        mine[what] = holders


def leave(member: Member, mine: Held[What, Member], what: What) -> None:
    """``member`` holds another object of this kind from now on, which nobody else does."""
    holders = mine.pop(what, None)
    if holders is not None:
        holders.discard(member)


def end(member: Member, mine: Held[What, Member]) -> None:
    """``member`` holds nothing any more."""
    for holders in mine.values():
        holders.discard(member)
    mine.clear()


class Holders(Generic[What, Member]):
    """What each of several members holds. Memory follows those that have not ended."""

    def __init__(self) -> None:
        self._held: dict[Member, Held[What, Member]] = {}

    def of(self, member: Member) -> Mapping[What, Set[Member]]:
        """By kind of object, who holds the member's, itself included."""
        return self._held.get(member, {})

    def others(self, member: Member, what: What) -> frozenset[Member]:
        """Who else holds the member's object."""
        return frozenset(self.of(member).get(what, ())) - {member}

    def join(self, member: Member, other: Member, whats: Iterable[What]) -> None:
        """``member`` holds ``other``'s objects of these kinds from now on."""
        theirs = self._held.setdefault(other, {})
        join(member, self._held.setdefault(member, {}), other, theirs, whats)

    def enter(self, member: Member, what: What, holders: set[Member]) -> None:
        """``member`` holds the object of ``holders`` from now on, a set that is the caller's to keep."""
        mine = self._held.setdefault(member, {})
        leave(member, mine, what)
        holders.add(member)
        mine[what] = holders

    def leave(self, member: Member, what: What) -> None:
        """``member`` holds another object from now on, which nobody else does."""
        if member in self._held:
            leave(member, self._held[member], what)

    def end(self, member: Member) -> None:
        """``member`` holds nothing any more."""
        end(member, self._held.pop(member, {}))
