"""The timeline as Chrome's tracing and Perfetto read it: the JSON Object Format of the Trace Event Format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, Final

import msgspec

from forklore.export.table import ExportOptions
from forklore.export.timeline.lanes import Lane, Lanes, Span, commands
from forklore.model.tasks import Trace
from forklore.model.timing import changes_at_once

_PIECE: Final = 200
"""So many lanes are written at once."""


def write(trace: Trace, out: IO[bytes], _options: ExportOptions) -> None:
    """Write the object, an event a line. Raises CannotExportError."""
    lanes = Lanes(trace)
    encode = msgspec.json.Encoder().encode
    out.write(b'{"traceEvents":[')
    before, pending = b"\n", bytearray()
    for number, event in enumerate(_events(trace, lanes), 1):
        pending += before
        pending += encode(event)
        before = b",\n"
        if number % _PIECE == 0:
            out.write(pending)
            pending.clear()
    out.write(pending)
    told = {"tool": "forklore", "command": commands(trace), "host": trace.header.host or ""}
    if lanes.left_out:
        told["left out"] = f"{lanes.left_out} tasks without times"
    out.write(b'\n],"displayTimeUnit":"ms","otherData":' + encode(told) + b"}\n")


def _events(trace: Trace, lanes: Lanes) -> Iterator[dict[str, Any]]:
    pids: dict[int, tuple[int, int]] = {}
    for lane in lanes:
        pids[lane.task.id] = lane.pid, lane.tid
        yield from _lane(lane, pids)
    for t, alive in changes_at_once(trace.tasks.values(), every=True) or ():
        yield {"ph": "C", "pid": 0, "name": "tasks alive", "ts": t / 1000, "args": {"tasks": alive}}


def _apart(spans: tuple[Span, ...]) -> Iterator[tuple[Span, int]]:
    """The spans of a lane, each with where it is said to end: a nanosecond before what follows it at once, and before
    that in which it lies. Viewers add ts and dur as floating-point numbers, and what touches would overlap."""
    begins = {(span.about, span.since) for span in spans}
    outer = 0
    for span in spans:
        until = span.until - ((span.about, span.until) in begins)
        if span.about == "ran":
            outer = until
        else:
            until = min(until, outer - 1)
        yield span, max(until, span.since)


def _lane(lane: Lane, pids: dict[int, tuple[int, int]]) -> Iterator[dict[str, Any]]:
    pid, tid, number = lane.pid, lane.tid, lane.task.id
    if lane.process == number:
        yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": lane.name}}
        yield {"ph": "M", "pid": pid, "name": "process_sort_index", "args": {"sort_index": number}}
    yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": lane.name}}
    for span, until in _apart(lane.spans):
        yield {
            "ph": "X", "pid": pid, "tid": tid, "name": span.name, "cat": span.about, "ts": span.since / 1000,
            "dur": (until - span.since) / 1000, "args": span.arguments,
        }  # fmt: skip
    for mark in lane.marks:
        yield {
            "ph": "i", "s": "t", "pid": pid, "tid": tid, "name": mark.name, "cat": mark.about, "ts": mark.t / 1000,
            "args": mark.arguments,
        }  # fmt: skip
    if lane.made_by is not None and lane.task.created is not None:
        from_pid, from_tid = pids[lane.made_by]
        flow = {"cat": "made", "name": "made", "id": number, "ts": lane.task.created / 1000}
        yield {"ph": "s", "pid": from_pid, "tid": from_tid, **flow}
        yield {"ph": "f", "bp": "e", "pid": pid, "tid": tid, **flow}
