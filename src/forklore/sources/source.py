"""What every source of events is: a traced program, programs that are attached to, a trace file, another tool's log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from forklore.events.records import EndReason, Event, Header

Emit = Callable[[Event], None]
"""Takes an event, in the order of the trace. The end record is none of them: who writes it counts them."""

Idle = Callable[[int], float]
"""Called by a source that is about to wait, with the time in ns since the start of the trace: now something can be
done that takes its time. The seconds after which it wants to be called again, events or not; 0: no need."""


class Source(Protocol):
    """Gives a header, then, by one :meth:`run`, events in an order that :class:`forklore.events.check.Checker` accepts.

    Events are pushed, for a live source makes them while it holds tasks: ``emit`` is called as it was given, and
    nothing stands between. A source whose events lie in a file can be iterated as well
    (:class:`forklore.events.trace_file.TraceFile`).
    """

    @property
    def header(self) -> Header:
        """What is known before the first event."""

    @property
    def warnings(self) -> list[str]:
        """Sentences about what this source could not read or reach; whole when :meth:`run` has returned."""

    def run(self, emit: Emit, idle: Idle) -> EndReason:
        """Give all events, and why there are no more: the reason of the end record."""

    def elapsed(self) -> int | None:
        """The end record's time: ns since the start of the trace. None where the source knows no times."""

    def stop(self) -> None:
        """Make :meth:`run` return soon, from a signal handler or another thread."""


def nothing_to_do(_t: int) -> float:
    """An :data:`Idle` for who has nothing to do between the events."""
    return 0.0
