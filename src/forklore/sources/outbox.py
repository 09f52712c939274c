"""Events on their way out, in their order: what is looked up in files for one of them is looked up later.

An event that names a function tells of a moment at which its task was held, and to find the name can be to read a large
file. So who makes such an event hands over the looking up as well; whatever comes behind it waits behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from forklore.events import records as ev

if TYPE_CHECKING:
    from forklore.sources.source import Emit

MOST: Final = 20_000
"""So much waits at most, …"""
MOST_BYTES: Final = 64 << 20
"""… and with so many bytes that were copied for it."""

Work = Callable[[], None]


class _Later(Struct, frozen=True):
    work: Work
    held: Work
    """What is done instead where somebody is held: it looks into no file."""


class Outbox:
    """Takes events, and work that gives some, and gives the events on."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._waiting: list[ev.Event | _Later] = []
        self._emptying = self._held = False
        self._size = 0

    def __call__(self, event: ev.Event) -> None:
        """An event: it goes out now if nothing waits before it."""
        if self._waiting and not self._emptying:
            self._waiting.append(event)
        else:
            self._emit(event)

    def later(self, work: Work, size: int = 0, *, held: Work | None = None) -> None:
        """Work that gives its events to this outbox: it is done when :meth:`empty` comes to it.

        ``size``: bytes that it keeps until then. ``held``: what is done instead where somebody is held then; None:
        ``work`` looks into no file.
        """
        one = _Later(work, work if held is None else held)
        if self._emptying:
            self._do(one)
        else:
            self._waiting.append(one)
            self._size += size

    @property
    def waits(self) -> bool:
        """Whether something waits."""
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        """Whether it is to be emptied whoever is held."""
        return len(self._waiting) > MOST or self._size > MOST_BYTES

    def empty(self, *, held: bool = False) -> None:
        """Do the work that waits and give all events on. ``held``: somebody is held, and no file is looked into."""
        self._emptying, self._held = True, held
        try:
            for one in self._waiting:
                if isinstance(one, _Later):
                    self._do(one)
                else:
                    self._emit(one)
        finally:
            self._waiting.clear()
            self._size = 0
            self._emptying = self._held = False

    def _do(self, one: _Later) -> None:
        if self._held:
            one.held()
        else:
            one.work()
