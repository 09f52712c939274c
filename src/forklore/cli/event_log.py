"""A line for each event, as it happens."""

from __future__ import annotations

from collections import deque
from typing import Final, TextIO

from forklore.abi.units import TaskId
from forklore.cli.common import wants_color
from forklore.events.records import Event, Exit, Gone, Header
from forklore.model.build import Builder
from forklore.report.log import LogView
from forklore.report.styled_lines import write

_ENDED_KEPT: Final = 256


class Log:
    """Prints the line of each event that :meth:`event` is given.

    ``endless``: tasks that ended are forgotten, so that a program that never ends needs no more memory.
    """

    def __init__(self, header: Header, file: TextIO, color: str, *, endless: bool) -> None:
        self._builder = Builder(header)
        self._view = LogView(self._builder)
        self._file = file
        self._color = wants_color(color, file)
        self._endless = endless
        self._ended: deque[TaskId] = deque()

    def event(self, event: Event) -> None:
        """Take an event."""
        self._builder.feed(event)
        line = self._view.line(event)
        if line is not None:
            write([line], self._file, color=self._color)
        if self._endless and isinstance(event, Exit | Gone):
            self._forget(TaskId(event.task))

    def _forget(self, number: TaskId) -> None:
        # The last tasks that ended stay: an event that is told late may name them.
        self._ended.append(number)
        if len(self._ended) <= _ENDED_KEPT:
            return
        oldest = self._ended.popleft()
        if self._builder.holds_creator(oldest):
            self._ended.append(oldest)
        else:
            self._builder.forget(oldest)
