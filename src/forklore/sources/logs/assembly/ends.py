"""Ends of tasks as the kernel sees them, put where somebody can wait for them."""

from __future__ import annotations

from forklore.sources.logs.assembly.ordering import Ordering
from forklore.sources.logs.assembly.tasks import LoggedTask


class Ends:
    """Keeps the end of a group's leader that its threads outlive.

    Nobody is told of it before the last of them has ended (kernel/exit.c: exit_notify, delay_group_leader), and an
    exec of one of them takes its tid.
    """

    def __init__(self, order: Ordering) -> None:
        self._order = order
        self._kept: dict[LoggedTask, int | None] = {}

    def exits(self, task: LoggedTask, t: int | None, status: int | None) -> None:
        """The task is in do_exit. ``status``: None where it is not known; then what it announced counts."""
        told = task.leaving or task.group.group_leaving
        status = status if status is not None or told is None else told[0]
        if task.threads > 0:
            self._kept[task] = status
            return
        leader = task.group
        self._order.exit(task, t, status)
        if leader in self._kept and leader.threads <= 0:
            self._order.exit(leader, t, self._kept.pop(leader))

    def superseded(self, leader: LoggedTask) -> None:
        """A thread's exec takes the leader's tid."""
        self._kept.pop(leader, None)

    def finish(self, t: int | None) -> None:
        """The log has ended, and their threads go on."""
        for leader, status in self._kept.items():
            self._order.exit(leader, t, status)
