"""Open whatever holds a trace, told by its content: forklore's own files, and logs of other tools."""

from __future__ import annotations

import os
from typing import Final

from forklore.events import jsonl
from forklore.events.lines import LineSource, TraceError, excerpt, open_lines
from forklore.events.records import FORMAT_NAME
from forklore.events.trace_file import TraceFile

_OWN: Final = f'"{FORMAT_NAME}"'.encode()


def open_any(path: str | os.PathLike[str]) -> TraceFile:
    """Open a trace: a file, a FIFO, or ``-`` for the standard input; gzip is seen through.

    Raises OSError where the file cannot be opened, and TraceError where it is none of these, now or while the
    events are read.
    """
    source = open_lines(path)
    try:
        return _recognise(source)
    except TraceError:
        source.close()
        raise


def _recognise(source: LineSource) -> TraceFile:
    head = [first] if (first := next(source, b"")) else []
    json = first.lstrip(b" \t\xef\xbb\xbf").startswith(b"{")
    log = None
    if not (json and _OWN in first):
        from forklore.sources.logs.formats import choose  # forklore's own files need none of it

        log = choose(source, head)
    source.unread(head)
    if log is not None:
        return log.read(source, head)
    if json:
        return jsonl.read_lines(source)  # where it is not ours after all, it says what is wrong
    raise _unknown(source.name, head)


def _unknown(name: str, head: list[bytes]) -> TraceError:
    from forklore.sources.logs.formats import FORMATS

    *names, last = ("a forklore trace (JSON lines)", *(each.name for each in FORMATS))
    wanted = f"{', '.join(names)} or {last}"
    if not head:
        return TraceError(name, 0, wanted, "an empty file")
    if any(b"\0" in line for line in head):
        return TraceError(name, 0, wanted, "binary data")
    found = f"“{excerpt(head[0].strip())}” and no line of their kind among the first {len(head)}"
    return TraceError(name, 1, wanted, found)
