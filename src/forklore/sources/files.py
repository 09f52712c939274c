"""Open whatever holds a trace, told by its content: forklore's own files, and logs of other tools."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from forklore.events import jsonl
from forklore.events.lines import LineSource, TraceError, excerpt, open_lines
from forklore.events.records import FORMAT_NAME
from forklore.events.trace_file import TraceFile

_OWN: Final = f'"{FORMAT_NAME}"'.encode()


def open_any(path: str | os.PathLike[str]) -> TraceFile:
    """Open a trace: a file, a FIFO, or ``-`` for the standard input; gzip is seen through. A directory, or the PREFIX
    that was given to ``strace -ff -o``, stands for the files PREFIX.PID.

    Raises OSError where the file cannot be opened, and TraceError where it is none of these, now or while the
    events are read.
    """
    if os.path.isdir(path) or not (path == "-" or os.path.lexists(path)):
        from forklore.sources.logs.strace.per_task import files_below

        files = files_below(path)
        folder = os.path.isdir(path)
        # Those of --rotate are named alike; of a task that did nothing strace writes an empty file.
        own = next((each for each in files if _is_ours(each) and not (folder and each.stat().st_size == 0)), None)
        if files and own is None:
            return open_several(files)
        if folder:
            expected = "a trace, or a directory with what strace -ff -o PREFIX wrote"
            found = "a directory without files named PREFIX.PID"
            if own is not None:
                found = f"a directory with traces of forklore's own, such as {excerpt(os.fsencode(own.name))}: name one"
            raise TraceError(os.fspath(path), 0, expected, found)
    return _opened(open_lines(path))


def _is_ours(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as file:
        begin = file.read(4096)
    return not begin or _OWN in begin or begin.startswith(b"\x1f\x8b")


def open_several(paths: Iterable[str | os.PathLike[str]]) -> TraceFile:
    """Open what ``strace -ff -o PREFIX`` wrote, a file a task, as one log. Raises as :func:`open_any` does."""
    from forklore.sources.logs.strace.per_task import open_set

    return _opened(open_set(paths))


def _opened(source: LineSource) -> TraceFile:
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
    from forklore.sources.logs.formats import FORMATS, summary

    *names, last = ("a forklore trace (JSON lines)", *(each.name for each in FORMATS))
    wanted = f"{', '.join(names)} or {last}"
    if not head:
        return TraceError(name, 0, wanted, "an empty file")
    if (counted := summary(head)) is not None:
        line, found_summary = counted
        found = f"{found_summary.name}, which counts calls and tells of no task; write {found_summary.instead}"
        return TraceError(name, line, "a trace or a log", found)
    if any(b"\0" in line for line in head):
        return TraceError(name, 0, wanted, "binary data")
    found = f"“{excerpt(head[0].strip())}” and no line of their kind among the first {len(head)}"
    return TraceError(name, 1, wanted, found)
