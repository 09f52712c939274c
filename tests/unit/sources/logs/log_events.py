"""Helpers of the tests of the log readers: logs as text in, checked events out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from forklore.events.check import Checker
from forklore.events.records import Begin, Create, Event
from forklore.events.trace_file import TraceFile
from forklore.sources.files import open_any

DATA = Path(__file__).parent / "data"
E = TypeVar("E", bound=Event)


def events_of(trace: TraceFile) -> list[Event]:
    """All events of a trace, which must be a consistent one with an end."""
    check = Checker()
    events = list(trace)
    for event in events:
        check(event)
    assert check.end is not None
    return events


def read(path: Path, log: str | bytes) -> tuple[list[Event], list[str]]:
    """The events and the warnings of a log."""
    path.write_bytes(log.encode() if isinstance(log, str) else log)
    trace = open_any(path)
    return events_of(trace), trace.warnings


def only(events: Iterable[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def tree(events: Iterable[Event]) -> dict[int, int | None]:
    """Each task's creator, None for one that begins without a creation."""
    return {e.child: e.task for e in events if isinstance(e, Create)} | {
        e.task: None for e in events if isinstance(e, Begin)
    }
