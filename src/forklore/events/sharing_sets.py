"""Which tasks hold one object now, as far as a recording has told: for the ``begin`` records of a continued file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Final

from forklore.abi.kcmp import Order
from forklore.abi.resources import EXEC_ENDS
from forklore.decode.holders import Holders
from forklore.events.records import COMPARED, Begin, Create, Exec

_EQUAL: Final = int(Order.EQUAL)


class Together:
    """The sets of tasks that share an object of :data:`COMPARED`; what a task has alone is in none."""

    def __init__(self) -> None:
        self._holders: Holders[str, int] = Holders()

    def of(self, task: int) -> Iterator[tuple[str, Set[int]]]:
        """The objects that a task shares, and who holds each of them, the task itself included."""
        return ((name, holders) for name, holders in self._holders.of(task).items() if len(holders) > 1)

    def begun(self, event: Begin) -> None:
        """A task that was attached to."""
        for name, other in (event.together or {}).items():
            if other != event.task:
                self._holders.join(event.task, other, (name,))

    def created(self, event: Create) -> None:
        """A child that was compared with its creator."""
        if isinstance(event.kcmp, tuple):
            shared = (name for name, answer in zip(COMPARED, event.kcmp, strict=True) if answer == _EQUAL)
            self._holders.join(event.child, event.task, shared)

    def executed(self, event: Exec) -> None:
        """A task that executed."""
        self.asked_again(event.task, event.compared)
        for name in EXEC_ENDS:
            if name not in event.compared:
                self._holders.leave(event.task, name)

    def asked_again(self, task: int, compared: Mapping[str, tuple[int, int]]) -> None:
        """A task that may have given up what it shared, with kcmp's answers. It has what could not be asked no more."""
        for name, (_other, answer) in compared.items():
            if answer != _EQUAL:
                self._holders.leave(task, name)

    def ended(self, task: int) -> None:
        """A task that holds nothing any more, or is out of sight."""
        self._holders.end(task)
