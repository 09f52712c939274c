"""Events on their way out, in their order: what is looked up in files for one of them is looked up later.

An event that names a function tells of a moment at which its task was held, and to find the name can be to read a large
file. So who makes such an event hands over the looking up as well; whatever comes behind it waits behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from forklore.events import records as ev

if TYPE_CHECKING:
    from forklore.sources.source import Emit

MOST: Final = 10_000
"""So much waits at most, …"""
MOST_BYTES: Final = 16 << 20
"""… and with so many bytes that were copied for it."""


class Outbox:
    """Takes events, and work that gives some, and gives the events on."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._waiting: list[ev.Event | Callable[[], None]] = []
        self._emptying = False
        self._size = 0

    def __call__(self, event: ev.Event) -> None:
        """An event: it goes out now if nothing waits before it."""
        if self._waiting and not self._emptying:
            self._waiting.append(event)
        else:
            self._emit(event)

    def later(self, work: Callable[[], None], size: int = 0) -> None:
        """Work that gives its events to this outbox: it is done when :meth:`empty` comes to it.

        ``size``: bytes that it keeps until then.
        """
        if self._emptying:
            work()
        else:
            self._waiting.append(work)
            self._size += size

    @property
    def waits(self) -> bool:
        """Whether something waits."""
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        """Whether it should be emptied whoever is held."""
        return len(self._waiting) > MOST or self._size > MOST_BYTES

    def empty(self) -> None:
        """Do the work that waits and give all events on."""
        self._emptying = True
        try:
            for one in self._waiting:
                if callable(one):
                    one()
                else:
                    self._emit(one)
        finally:
            self._waiting.clear()
            self._size = 0
            self._emptying = False
