"""Whose log it is: strace's or ltrace's, told by its lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from forklore.events.lines import LineSource
from forklore.events.trace_file import TraceFile
from forklore.sources.logs import ltrace, strace

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

Reader = Callable[[LineSource, list[bytes]], TraceFile]


def choose(source: LineSource, head: list[bytes]) -> Reader | None:
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
