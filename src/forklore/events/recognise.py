"""Open whatever holds a trace, told by its content: forklore's own files, logs of strace and of ltrace."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

from forklore.events import jsonl
from forklore.events.lines import LineSource, TraceError, open_lines, printable
from forklore.events.readers import ltrace, strace

_LINES: Final = 2000
_BYTES: Final = 1 << 20
_SURE: Final = 3
_SEARCHED: Final = 1 << 16

_PREFIX: Final = (
    rb"^(?:.{0,4096}?\[pid +\d+(?:<[^>]*>)?\] |\d+(?:<[^>]*>)? ++)?"
    rb"(?: *+[\d.:]+ ++)?(?:\(\+ +[\d.]+\) )?(?:\[[^\]]{1,18}\] )*"
)
_STRACE: Final = re.compile(
    _PREFIX + rb'(?:execve\("(?:[^"\\]|\\.)*"(?:\.\.\.)?, \['
    rb"|clone\((?:child_stack|stack)=|clone3\(\{flags="
    rb"|\w+\(.*\) += -1 E[A-Z0-9]+ \("
    rb"|<\.\.\. \w+ resumed>(?! \))"
    rb"|\+\+\+ exited with \d+ \+\+\+"
    rb"|\+\+\+ superseded by execve in pid "
    rb"|--- SIG\w+ \{si_signo=|--- stopped by SIG)"
)
_STRACE_NOTICE: Final = re.compile(rb"strace: Process \d+ attached|\[ Process PID=\d+ runs in ")
_LTRACE: Final = re.compile(
    _PREFIX + rb"(?:SYS_\w+\(|\w+@SYS\("
    rb"|<\.\.\. (?:SYS_\w+|\w+@SYS) resumed>"
    rb"|\+\+\+ exited \((?:status \d+|unknown)"
    rb"|--- Called exec\(\) ---"
    rb"|--- SIG\w+ \([^)]*\) ---)"
)
_EITHER: Final = re.compile(
    _PREFIX + rb"(?:\w+\(.*(?:<unfinished \.\.\.>|\) += (?:\?|-?\d+|0x[0-9a-f]+)(?:<[^<>]*>)?)"
    rb"|\+\+\+ killed by SIG\w+ (?:\(core dumped\) )?\+\+\+)"
)
_WANTED: Final = "a forklore trace (JSON lines), a log of strace -f or a log of ltrace -S -f"


def open_any(path: str | os.PathLike[str]) -> jsonl.Trace:
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


def _recognise(source: LineSource) -> jsonl.Trace:
    first = next(source, b"")
    if not first:
        raise TraceError(source.name, 0, _WANTED, "an empty file")
    if first.lstrip(b" \t\xef\xbb\xbf").startswith(b"{"):
        source.unread([first])
        return jsonl.read_lines(source)
    head = [first]
    reader = _reader(source, head)
    if reader is None:
        if any(b"\0" in line for line in head):
            raise TraceError(source.name, 0, _WANTED, "binary data")
        found = f"“{printable(first.strip())}” and no line of their kind among the first {len(head)}"
        raise TraceError(source.name, 1, _WANTED, found)
    source.unread(head)
    return reader(source, head)


def _reader(source: LineSource, head: list[bytes]) -> Callable[[LineSource, list[bytes]], jsonl.Trace] | None:
    """Read on into ``head`` until the lines tell whose they are."""
    strace_lines = ltrace_lines = either = size = 0
    line = head[0]
    while True:
        size += len(line)
        if b"\0" not in line:
            if _LTRACE.match(line, 0, _SEARCHED):
                ltrace_lines += 1
            elif _STRACE.match(line, 0, _SEARCHED) or _STRACE_NOTICE.search(line, 0, _SEARCHED):
                strace_lines += 1
            elif _EITHER.match(line, 0, _SEARCHED):
                either += 1
        if max(ltrace_lines, strace_lines) >= _SURE or len(head) >= _LINES or size >= _BYTES:
            break
        following = next(source, None)
        if following is None:
            break
        line = following
        head.append(line)
    if ltrace_lines > strace_lines:
        return ltrace.read
    return strace.read if strace_lines or either else None
