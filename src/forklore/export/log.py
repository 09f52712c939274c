"""Every event on a line, as it happens or as a file has it."""

from __future__ import annotations

from collections import deque
from typing import IO, Final

from forklore.abi.units import TaskId
from forklore.events.records import Event, Exit, Gone, Header
from forklore.events.trace_file import TraceFile
from forklore.export.table import ExportOptions
from forklore.model.build import Builder
from forklore.report import styled_lines
from forklore.report.log import LogView

_ENDED_KEPT: Final = 256


def write(source: TraceFile, out: IO[str], options: ExportOptions) -> None:
    """Write a line for each event of a file. Raises TraceError."""
    source.run(Log(source.header, out, color=options.color, endless=False, columns=options.cut).event)


class Log:
    """Writes the line of each event that :meth:`event` is given.

    ``endless``: tasks that ended are forgotten, so that a program that never ends needs no more memory. ``columns``: as
    wide a line may be; None: as long as it gets.
    """

    def __init__(
        self, header: Header, out: IO[str], *, color: bool, endless: bool, columns: int | None = None
    ) -> None:
        self._builder = Builder(header)
        self._view = LogView(self._builder)
        self._out = out
        self._color = color
        self._endless = endless
        self._columns = columns
        self._ended: deque[TaskId] = deque()

    def event(self, event: Event) -> None:
        """Take an event."""
        self._builder.feed(event)
        line = self._view.line(event)
        if line is not None:
            with styled_lines.drawn_for(self._out):
                styled_lines.write([styled_lines.fit(line, self._columns)], self._out, color=self._color)
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
