"""The times of a page: microseconds since the start of the trace, or where a log has no times, the order of events."""

from __future__ import annotations

from forklore.abi.units import Nanoseconds
from forklore.model.tasks import Task, Trace

_MICRO = 1000


class Clock:
    """Makes times of a page out of those of a trace."""

    def __init__(self, trace: Trace) -> None:
        tasks = trace.tasks.values()
        self.timed = all(task.created is not None for task in tasks)
        """False: the trace has no times, and each task begins one unit after the one before."""
        self._lives: dict[int, tuple[int, int]] = {}
        if not self.timed:
            self._order(trace)
        lives = self._lives.values()
        starts = [task.created // _MICRO for task in tasks if task.created is not None] if self.timed else []
        ends = [task.ended // _MICRO for task in tasks if task.ended is not None] if self.timed else []
        self.start = min(starts, default=0)
        self.end = max([*starts, *ends, *(end for _, end in lives), self.start + 1])
        if self.timed and trace.ended is not None and any(task.ended is None for task in tasks):
            self.end = max(self.end, trace.ended // _MICRO)

    def _order(self, trace: Trace) -> None:
        # As long as the last that is below it: who was alive with whom is not known beyond that.
        begin = {number: place for place, number in enumerate(trace.tasks)}
        last = {number: place + 1 for number, place in begin.items()}
        for number in reversed(trace.tasks):
            creator = trace.tasks[number].creator
            if creator is not None:
                last[creator] = max(last[creator], last[number])
        self._lives = {number: (begin[number], last[number]) for number in begin}

    def at(self, t: Nanoseconds | None, otherwise: int) -> int:
        """A time of the trace; ``otherwise`` where it has none."""
        return otherwise if t is None or not self.timed else t // _MICRO

    def life(self, task: Task) -> tuple[int, int]:
        """When it began, and when it ended or was last known to live."""
        if task.created is None or not self.timed:
            return self._lives.get(task.id, (0, 1))
        start = task.created // _MICRO
        return start, max(self.at(task.ended, self.end), start)
