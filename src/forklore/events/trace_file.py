"""A file of events being read, whoever wrote it: forklore's own, or a log of another tool."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from forklore.events.lines import LineSource
from forklore.events.records import End, EndReason, Event, Header


class TraceFile:
    """A :class:`forklore.sources.source.Source` that can be iterated as well, once.

    ``warnings`` grow while the events are read. The last event is an :class:`End`, unless the file was cut off. Raises
    TraceError while it is read.
    """

    def __init__(self, header: Header, events: Iterator[Event], warnings: list[str], source: LineSource) -> None:
        self.header = header
        self.warnings = warnings
        self._events = events
        self._source = source
        self._end: End | None = None
        self._stopped = False

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def run(self, emit: Callable[[Event], None], _idle: Callable[[int], float] | None = None) -> EndReason:
        """Give all events but the end record; its reason, or ``cut off`` where there is none."""
        for event in self._events:
            if isinstance(event, End):
                self._end = event
            else:
                emit(event)
            if self._stopped:
                self.close()
                return "interrupted"
        return "cut off" if self._end is None else self._end.reason

    def elapsed(self) -> int | None:
        """The time of the end record."""
        return None if self._end is None else self._end.t

    def stop(self) -> None:
        """Make :meth:`run` return after the next event."""
        self._stopped = True

    def close(self) -> None:
        """Close the file: for who does not read it to its end."""
        self._source.close()
