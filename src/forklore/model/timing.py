"""Time over a whole trace: how many tasks there were side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from forklore.model.tasks import Task

FINE: Final = 1_000_000
"""In nanoseconds: coarser times do not tell who lived together."""


def cpu_of(tasks: Iterable[Task]) -> int | None:
    """The CPU time in µs of all processes together; None where it was not told.

    What a parent has waited for is in its own sum. An orphan is not: somebody else waited for it.
    """
    told = [task.cpu for task in tasks if task.cpu is not None and (task.creator is None or task.reapers)]
    return sum(told) if told else None


def most_at_once(tasks: Iterable[Task]) -> int | None:
    """How many processes were alive at the same time at most; None where times do not tell.

    One whose end was not seen counts to the end; a zombie does not count.
    """
    changes: list[tuple[int, int]] = []
    for task in tasks:
        if task.kind != "process":
            continue
        if task.created is None or task.coarse > FINE:
            return None
        changes.append((task.created, 1))
        if task.ended is not None:
            changes.append((task.ended, -1))
    alive = most = 0
    for _, change in sorted(changes):
        alive += change
        most = max(most, alive)
    return most
