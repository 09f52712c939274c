"""Which records were lost, and where: told by the numbers that they were given before room was asked for.

Pure. The programs count what found no room, by kind. A jump in the numbers says where to look at these counts. Two
processors can put their records into the ring the other way round than they numbered them, so that a number that is
missing may still come: the counts alone say what is lost, and in the end as many numbers are missing as they say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from forklore.sources.bpf.raw import NAMES, Kind


class Loss(Struct, frozen=True):
    """Records that were lost between two looks: how many of each kind."""

    kinds: Mapping[Kind, int]

    @property
    def count(self) -> int:
        """All of them."""
        return sum(self.kinds.values())

    def __str__(self) -> str:
        return ", ".join(f"{count} {NAMES[kind]}" for kind, count in self.kinds.items())


class Gaps:
    """Follows the numbers of one trace's records."""

    def __init__(self) -> None:
        self._next = 0
        self._missing = 0
        self._told: dict[int, int] = {}

    def saw(self, number: int) -> bool:
        """A record came. Whether numbers before it have not come."""
        if number == self._next:
            self._next += 1
            return False
        if number > self._next:
            self._missing += number - self._next
            self._next = number + 1
            return True
        self._missing -= 1
        return False

    def unseen(self, given: int) -> int:
        """Of the ``given`` numbers that were given out, how many have not come."""
        return self._missing + max(0, given - self._next)

    def lost(self, counted: Sequence[int]) -> Loss | None:
        """What was lost since the last time; None: nothing. ``counted``: the losses of each kind so far."""
        kinds = {Kind(kind): count - self._told.get(kind, 0) for kind, count in enumerate(counted)
                 if count > self._told.get(kind, 0)}  # fmt: skip
        if not kinds:
            return None
        self._told = dict(enumerate(counted))
        return Loss(kinds)
