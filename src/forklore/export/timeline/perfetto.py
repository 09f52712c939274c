"""The timeline as Perfetto's own trace: TracePacket messages with track events, encoded here, for they have few fields.

Numbers of fields: protos/perfetto/trace/trace_packet.proto and protos/perfetto/trace/track_event/ of Perfetto v49.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import IO, Final

from forklore.export.protobuf import fixed64, message, number, string, varint
from forklore.export.table import ExportOptions
from forklore.export.timeline.lanes import Argument, Lane, Lanes, commands
from forklore.model.tasks import Trace
from forklore.model.timing import changes_at_once

_PIECE: Final = 1 << 16

_PACKET: Final = 1
_TIMESTAMP, _SEQUENCE, _TRACK_EVENT, _SEQUENCE_FLAGS, _DESCRIPTOR = 8, 10, 11, 13, 60
_DEBUG, _TYPE, _TRACK, _CATEGORIES, _NAME, _COUNTER_VALUE, _FLOW, _LAST_FLOW = 4, 9, 11, 22, 23, 30, 47, 48
_BEGIN, _END, _INSTANT, _COUNTER = (number(_TYPE, kind) for kind in (1, 2, 3, 4))
_UUID, _TRACK_NAME, _PROCESS, _THREAD, _COUNTER_TRACK = 1, 2, 3, 4, 8
_PROCESS_PID, _PROCESS_COMMAND, _PROCESS_NAME = 1, 2, 6
_THREAD_PID, _THREAD_TID, _THREAD_NAME = 1, 2, 5
_DEBUG_INT, _DEBUG_STRING, _DEBUG_NAME = 4, 6, 10
_CLEARED: Final = 1
"""TracePacket.SEQ_INCREMENTAL_STATE_CLEARED: nothing of this sequence came before."""
_SEQUENCE_FIELD: Final = number(_SEQUENCE, 1)
_TIMESTAMP_KEY: Final = number(_TIMESTAMP, 0)[:-1]
_ALIVE: Final = 1
"""The track of the counter; a process has 2 * its task's number + 2, a thread one more."""


def write(trace: Trace, out: IO[bytes], _options: ExportOptions) -> None:
    """Write the trace. Raises CannotExportError."""
    pending = bytearray()
    for packet in _packets(trace, Lanes(trace)):
        pending += packet
        if len(pending) >= _PIECE:
            out.write(pending)
            pending.clear()
    out.write(pending)


def _packets(trace: Trace, lanes: Lanes) -> Iterator[bytes]:
    name = f"tasks alive: {commands(trace)}"
    counter = number(_UUID, _ALIVE) + string(_TRACK_NAME, name) + message(_COUNTER_TRACK, b"")
    yield message(
        _PACKET, _SEQUENCE_FIELD + number(_SEQUENCE_FLAGS, _CLEARED) + message(_DESCRIPTOR, counter)
    )  # fmt: skip
    for lane in lanes:
        yield b"".join(_lane(lane))
    for t, alive in changes_at_once(trace.tasks.values(), every=True) or ():
        yield _event(t, _COUNTER + number(_TRACK, _ALIVE) + number(_COUNTER_VALUE, alive))


def _lane(lane: Lane) -> Iterator[bytes]:
    task = lane.task
    process, thread = 2 * lane.process + 2, 2 * task.id + 3
    if lane.process == task.id:
        about = number(_PROCESS_PID, lane.pid) + string(_PROCESS_NAME, lane.name)
        command = next((span.arguments.get("command") for span in reversed(lane.spans) if span.about == "ran"), None)
        if isinstance(command, str):
            about += string(_PROCESS_COMMAND, command)
        yield _descriptor(number(_UUID, process) + message(_PROCESS, about))
    about = number(_THREAD_PID, lane.pid) + number(_THREAD_TID, lane.tid) + string(_THREAD_NAME, lane.name)
    yield _descriptor(number(_UUID, thread) + message(_THREAD, about))
    track = number(_TRACK, thread)
    ends = _END + track
    if lane.made_by is not None and task.created is not None:
        made = f"makes {lane.name}"
        where = number(_TRACK, 2 * lane.made_by + 3)
        yield _event(task.created, _INSTANT + where + _named(made, "made") + fixed64(_FLOW, task.id))
    arrives = fixed64(_LAST_FLOW, task.id) if lane.made_by is not None else b""
    # A program's end comes behind those of what held it, and before the next one's beginning.
    ran_until: int | None = None
    for span in lane.spans:
        if span.about == "ran":
            if ran_until is not None:
                yield _event(ran_until, ends)
            ran_until = span.until
        yield _event(
            span.since, _BEGIN + track + _named(span.name, span.about) + arrives + _arguments(span.arguments)
        )  # fmt: skip
        arrives = b""
        if span.about != "ran":
            yield _event(span.until, ends)
    if ran_until is not None:
        yield _event(ran_until, ends)
    for mark in lane.marks:
        yield _event(mark.t, _INSTANT + track + _named(mark.name, mark.about) + _arguments(mark.arguments))


def _descriptor(content: bytes) -> bytes:
    return message(_PACKET, _SEQUENCE_FIELD + message(_DESCRIPTOR, content))


def _event(t: int, content: bytes) -> bytes:
    when = varint(t if t > 0 else 0)  # it has no sign
    return message(_PACKET, b"".join((_TIMESTAMP_KEY, when, _SEQUENCE_FIELD, message(_TRACK_EVENT, content))))


@lru_cache(maxsize=4096)
def _named(name: str, about: str) -> bytes:
    return string(_CATEGORIES, about) + string(_NAME, name)


def _arguments(arguments: dict[str, Argument]) -> bytes:
    found = []
    for name, value in arguments.items():
        if isinstance(value, int):
            found.append(message(_DEBUG, _debug_int(name) + varint(value)))
        elif name in _ALIKE:
            found.append(_told(name, value))
        else:
            found.append(message(_DEBUG, _debug_name(name) + string(_DEBUG_STRING, value)))
    return b"".join(found)


_ALIKE: Final = frozenset({"call", "end", "path"})
"""What many tasks have in common."""


@lru_cache(maxsize=4096)
def _told(name: str, value: str) -> bytes:
    return message(_DEBUG, _debug_name(name) + string(_DEBUG_STRING, value))


@lru_cache(maxsize=64)
def _debug_int(name: str) -> bytes:
    return _debug_name(name) + number(_DEBUG_INT, 0)[:-1]


@lru_cache(maxsize=64)
def _debug_name(name: str) -> bytes:
    return string(_DEBUG_NAME, name)
