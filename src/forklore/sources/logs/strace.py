"""Logs of ``strace -f``: from its lines to event records, line by line. See docs/other-tools.md.

Written against strace 6.1's own output and the forms that older and newer versions print (strace's strace.c
and clone.c): ``[pid N]`` and ``N`` prefixes, -t, -tt, -ttt, -r, -T, -i, -n, -k, -y, -Y, -X.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Final

from forklore.events.lines import LineSource, escaped
from forklore.events.records import Blind, Clock, Event, Header, Source, Text
from forklore.events.trace_file import TraceFile
from forklore.sources.logs import strace_calls as calls
from forklore.sources.logs.strace_state import LINE, StraceReader
from forklore.sources.logs.text import arguments
from forklore.sources.logs.time_stamps import Stamps

BLIND: Final = (
    Blind("arch", "strace does not name it; x86_64 is assumed until the log tells of another mode"),
    Blind("kernel, host", "a log does not have them"),
    Blind("arguments", "words that strace does not print are null; strings may be cut (strace -s)"),
    Blind(
        "clone3 struct",
        "rebuilt from the printed fields: what was not printed is zero, and a set_tid that was printed as an "
        "array has all bits set as its pointer",
    ),
    Blind("clone's pointers", "strace prints what parent_tid points to, not the pointer"),
    Blind("sharing", "nothing was observed, only asked for"),
    Blind("parents", "a log does not tell who waits for a task after its parent ended"),
    Blind("thread groups", "of tasks that ran before the log began, each counts as a process"),
)


def read(source: LineSource, head: list[bytes]) -> TraceFile:
    """Read a log from its start; ``head`` are its first lines, which ``source`` gives again."""
    warnings: list[str] = []
    return TraceFile(_header(head), _events(source, warnings), warnings, source)


def _header(head: list[bytes]) -> Header:
    stamps = Stamps()
    command: list[Text] = []
    for line in head:
        match = LINE.match(line)
        if match is None:
            continue
        stamps.take(match)
        if match["call"] in calls.EXECUTING:
            args, _ = arguments(line, match.end())
            argv = calls.image(args if match["call"] == b"execve" else args[1:])[1]
            command = argv if isinstance(argv, list) else []
        break
    return Header(
        source=Source(tool="strace"),
        clock=Clock(start=None, wall=stamps.wall),
        command=command,
        blind=list(BLIND),
    )


def _events(source: LineSource, warnings: list[str]) -> Iterator[Event]:
    reader = StraceReader()
    assembler = reader.assembler
    queue = assembler.queue
    feed = reader.feed
    with closing(source):
        for line in source:
            if source.overlong:
                reader.notices.add("lines too long to read", source.number)
                continue
            feed(line, source.number)
            if queue:
                yield from assembler.ready()
    yield from assembler.finish(reader.stamps.last)
    warnings.extend(reader.notices.texts(escaped(source.name)))
