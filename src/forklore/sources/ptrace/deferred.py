"""What is left to do of a stop and needs nobody held: it is done while the tracees run, before the next wait."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from forklore.sources.ptrace.tracee import Tracee


class Work(Protocol):
    """One thing to do, with all that it needs."""

    @property
    def tasks(self) -> Iterable[Tracee | None]:
        """Whom it is about: it has to be done before their next stop is handled."""

    def run(self) -> None:
        """Do it."""


class Deferred:
    """The work that is put off, in its order: an event may name what the one before it told of."""

    def __init__(self) -> None:
        self.work: list[Work] = []

    def run(self) -> None:
        """Do all of it."""
        for work in self.work:
            work.run()
        self.work.clear()

    def assert_done(self, task: Tracee) -> None:
        """Nothing is left of the last stop of a task whose next one is about to be handled."""
        late = [work for work in self.work if task in work.tasks]
        assert not late, f"{task.tid} has stopped again, and of its last stop this is left to do: {late}"
