"""Open whatever holds a trace, told by its content: forklore's own files, logs of strace and of ltrace."""

from __future__ import annotations

import os
from typing import Final

from forklore.events import jsonl
from forklore.events.lines import LineSource, TraceError, open_lines, printable
from forklore.events.trace_file import TraceFile

_WANTED: Final = "a forklore trace (JSON lines), a log of strace -f or a log of ltrace -S -f"


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
    first = next(source, b"")
    if not first:
        raise TraceError(source.name, 0, _WANTED, "an empty file")
    if first.lstrip(b" \t\xef\xbb\xbf").startswith(b"{"):
        source.unread([first])
        return jsonl.read_lines(source)
    from forklore.sources.logs.choose import choose  # only now: forklore's own files need none of it

    head = [first]
    reader = choose(source, head)
    if reader is None:
        if any(b"\0" in line for line in head):
            raise TraceError(source.name, 0, _WANTED, "binary data")
        found = f"“{printable(first.strip())}” and no line of their kind among the first {len(head)}"
        raise TraceError(source.name, 1, _WANTED, found)
    source.unread(head)
    return reader(source, head)
