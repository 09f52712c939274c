"""What ``tracexec collect`` writes, ``--format json`` and ``json-stream``, also ``--pretty``. See docs/other-tools.md.

Written after its source, crates/tracexec-exporter-json: an object with ``generator`` and ``version``,
and an object for each execve, in its list ``events`` or on their own. There are no creations and no ends in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import msgspec
from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.abi.errors import MAX_ERRNO
from forklore.abi.units import PID_LIMIT, Unavailable
from forklore.events.check import TIME_LIMIT
from forklore.events.lines import LineSource, excerpt
from forklore.events.records import Blind, Clock, Event, Exec, ExecFail, Header, Source, Text, text
from forklore.events.trace_file import TraceFile
from forklore.sources.logs.assembly.ordering import Ordering

MARK: Final = re.compile(rb'.{0,4096}?"generator": ?"tracexec', re.DOTALL)
"""Tells the first object from any other JSON."""
_BLANKS: Final = re.compile(r"\s*")
_WHOLE_LIMIT: Final = 256 << 20
"""An object of more than one line is read whole."""
_EXPECTED: Final = "JSON of tracexec collect"
_BLIND: Final = (
    Blind("creators", "tracexec's JSON has execs only: who made whom, and tasks that executed nothing, are not in it"),
    Blind("ends", "they are not in tracexec's JSON"),
    Blind("calls", "flags and refusals of fork, vfork, clone and clone3 are not in tracexec's JSON"),
    Blind("arch, kernel, host", "they are not in tracexec's JSON"),
    Blind("sharing", "nothing was observed"),
)


class _Argv(Struct):
    """``result`` is ``success``, and ``value`` a list; or ``error``, and a sentence."""

    result: str
    value: list[str] | str


class _Execve(Struct):
    """An event. ``pid`` is that after the exec, ``exec_pid`` that of the thread that called."""

    filename: str
    result: int
    argv: _Argv
    pid: int
    exec_pid: int | None = None
    comm_before_exec: str | None = None
    timestamp: int | None = None


class _Meta(Struct):
    """The first object."""

    generator: str
    version: str | None = None
    events: list[msgspec.Raw] = []


def read(source: LineSource, head: list[bytes]) -> TraceFile:
    """Read the file from its start; ``head`` are its first lines, which ``source`` gives again."""
    warnings: list[str] = []
    objects = _objects(source)
    try:
        number, raw = next(objects, (1, b""))
        meta = msgspec.json.decode(raw, type=_Meta)
        first = next(iter(meta.events), None)
        if first is None:
            number, following = next(objects, (number, b""))
        else:
            following = b""
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise source.error(_EXPECTED, excerpt(str(error))) from error

    def events() -> Iterator[tuple[int, bytes]]:
        yield from ((number, bytes(each)) for each in meta.events)
        if following:
            yield number, following
        yield from objects

    wall = _time_of(bytes(first) if first is not None else following)
    header = Header(
        source=Source(tool="tracexec", version=meta.version),
        clock=Clock(start=None, wall=wall, resolution=1),
        blind=list(_BLIND),
    )
    return TraceFile(header, _told(events(), wall, source, warnings), warnings, source)


def _time_of(raw: bytes) -> int | None:
    try:
        return msgspec.json.decode(raw, type=_Execve).timestamp if raw else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _objects(source: LineSource) -> Iterator[tuple[int, bytes]]:
    """Each object, with the number of its line: one a line, or all of the file taken apart."""
    for line in source:
        if line.strip() and not source.overlong and not _is_whole(line):
            yield from _apart(source, line)
            return
        if line.strip():
            yield source.number, line


def _is_whole(line: bytes) -> bool:
    return line.rstrip().endswith(b"}")


def _apart(source: LineSource, line: bytes) -> Iterator[tuple[int, bytes]]:
    import json  # finds where an object ends, which msgspec does not tell

    number, parts, size = source.number, [line], len(line)
    for more in source:
        size += len(more)
        if size > _WHOLE_LIMIT:
            raise source.error(f"at most {_WHOLE_LIMIT >> 20} MiB of JSON that is not an object a line", "more")
        parts.append(more)
    whole = b"".join(parts).decode("utf-8", "surrogateescape")
    decoder, at = json.JSONDecoder(), 0
    while (at := _BLANKS.match(whole, at).end()) < len(whole):  # type: ignore[union-attr]
        begins = number + whole.count("\n", 0, at)
        try:
            _, end = decoder.raw_decode(whole, at)
        except (ValueError, RecursionError) as error:
            raise source.error(_EXPECTED, f"in the object from line {begins} on: {excerpt(str(error))}") from error
        yield begins, whole[at:end].encode("utf-8", "surrogateescape")
        at = end


def _told(
    objects: Iterator[tuple[int, bytes]], wall: int | None, source: LineSource, warnings: list[str]
) -> Iterator[Event]:
    order = Ordering(Arch.X86_64)
    last: int | None = None
    with closing(source):
        for number, raw in objects:
            order.line = number
            try:
                event = msgspec.json.decode(raw, type=_Execve)
            except (msgspec.DecodeError, UnicodeDecodeError):
                order.notices.add("objects that are no exec of tracexec, or cut off", number)
                continue
            last = _since(event.timestamp, wall)
            _take(order, event, last)
            yield from order.ready()
    yield from order.finish(last)
    warnings.extend(order.notices.texts(source.place_of))


def _since(stamp: int | None, wall: int | None) -> int | None:
    return None if stamp is None or wall is None or abs(stamp - wall) >= TIME_LIMIT else stamp - wall


def _take(order: Ordering, event: _Execve, t: int | None) -> None:
    caller = event.pid if event.exec_pid is None else event.exec_pid
    if not (0 < event.pid < PID_LIMIT and 0 < caller < PID_LIMIT):
        order.notices.add("execs of no possible pid", order.line)
        return
    comm = None if event.comm_before_exec is None else text(event.comm_before_exec.encode("utf-8", "surrogateescape"))
    task = order.tasks.get(caller) or order.was_there(caller, t, comm)
    path, argv = _text(event.filename), _argv(event.argv)
    if event.result < 0:
        if event.result >= -MAX_ERRNO:
            order.emit(ExecFail(t=t, task=task.id, path=path, argv=argv, errno=-event.result))
        return
    if caller != event.pid:
        order.takes_over(task, event.pid, t)
    former, task.former_tid = task.former_tid, None
    order.executed(task, Exec(t=t, task=task.id, path=path, argv=argv, former_tid=former))


def _text(given: str) -> Text | Unavailable:
    if given.startswith("[err: "):
        return Unavailable(errno=0, why=f"tracexec could not read it: {given}")
    return text(given.encode("utf-8", "surrogateescape"))


def _argv(given: _Argv) -> list[Text] | Unavailable:
    if isinstance(given.value, str):
        return Unavailable(errno=0, why=f"tracexec could not read them: {given.value}")
    texts = [_text(each) for each in given.value]
    return [each for each in texts if not isinstance(each, Unavailable)] if _all_read(texts) else _NOT_ALL


_NOT_ALL: Final = Unavailable(errno=0, why="tracexec could not read all of them")


def _all_read(texts: list[Any]) -> bool:
    return not any(isinstance(each, Unavailable) for each in texts)
