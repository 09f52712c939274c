"""Signals that the tracer passed on to the program, held against those that reached the program by themselves."""

from __future__ import annotations

from collections import defaultdict, deque
from signal import struct_siginfo
from typing import Final

_ONE_KILL: Final = 1_000_000_000
"""Nanoseconds within which a signal to us and one to the program, from one sender, are taken for one kill(2)."""
_OVERTAKEN: Final = 50_000_000
"""The same where what was passed on came first: kill(2) had not reached the program yet, but is about to."""


class Relayed:
    """kill(2) of a whole process group reaches the program and the tracer: what is passed on is then a second one.

    Each signal that came by itself stands for one that is passed on, and the other way round. Several may be on their
    way before the first is passed on, so those that came are kept, each for as long as it can still be meant. siginfo
    cannot tell a kill of a group from two kills, so within these times it is a guess.
    """

    def __init__(self) -> None:
        self._passed: dict[int, tuple[struct_siginfo, int]] = {}
        self._seen: defaultdict[int, deque[tuple[int, int]]] = defaultdict(deque)
        self._first: dict[int, tuple[int, int]] = {}

    def passed(self, number: int, origin: struct_siginfo, t: int) -> None:
        """The tracer is about to pass on a signal that came to it from ``origin``."""
        self._passed[number] = origin, t

    def origin(self, number: int) -> struct_siginfo | None:
        """How the last signal of that number that was passed on had come."""
        passed = self._passed.get(number)
        return None if passed is None else passed[0]

    def by_itself(self, number: int, sender: int, t: int) -> bool:
        """A signal that ``sender`` sent to the program is about to be delivered: whether it is a second one."""
        first = self._first.pop(number, None)
        if first is not None and first[0] == sender and t < first[1] + _OVERTAKEN:
            return True
        seen = self._seen[number]
        self._forget(seen, t - _ONE_KILL)
        seen.append((sender, t))
        return False

    def by_us(self, number: int, t: int) -> bool:
        """What was passed on is about to be delivered: whether it is a second one."""
        passed = self._passed.get(number)
        if passed is None:
            return False
        seen = self._seen[number]
        self._forget(seen, passed[1] - _ONE_KILL)
        for index, (sender, _t) in enumerate(seen):
            if sender == passed[0].si_pid:
                del seen[index]
                return True
        self._first[number] = passed[0].si_pid, t
        return False

    @staticmethod
    def _forget(seen: deque[tuple[int, int]], before: int) -> None:
        while seen and seen[0][1] <= before:
            seen.popleft()
