"""The logs of other tools that can be read, and whose a log is, told by its lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

from msgspec import Struct

from forklore.events.lines import LineSource
from forklore.events.trace_file import TraceFile
from forklore.sources.logs import perf_trace, qemu, tracexec
from forklore.sources.logs.ltrace import reader as ltrace
from forklore.sources.logs.pasted import bare
from forklore.sources.logs.strace import reader as strace
from forklore.sources.logs.tracepoints import reader as tracepoints
from forklore.sources.logs.tracepoints.lines import PERF, TRACEFS

_LINES: Final = 2000
_BYTES: Final = 1 << 20
_SURE: Final = 3
_SEARCHED: Final = 1 << 16

_PREFIX: Final = (
    rb"^(?:.{0,4096}?\[pid +\d+(?:<[^>]*>)?\] |\d+(?:<[^>]*>)? ++)?"
    rb"(?: *+[\d.:]+ ++)?(?:\(\+ +[\d.]+\) )?(?:\[[^\]]{1,18}\] )*"
)


class Format(Struct, frozen=True):
    """A tool's log. To read another tool's: write its reader, and add an entry to :data:`FORMATS`."""

    name: str
    """As messages call it."""
    read: Callable[[LineSource, list[bytes]], TraceFile]
    """From the first line on; the list has the first lines, which the source gives again."""
    certain: re.Pattern[bytes]
    """A line that no other tool writes; a line that several claim is the last one's in :data:`FORMATS`."""
    possible: re.Pattern[bytes] | None = None
    """A line that others write too."""


FORMATS: Final = (
    Format(
        "a log of strace -f",
        strace.read,
        re.compile(
            _PREFIX + rb'(?:execve\("(?:[^"\\]|\\.)*"(?:\.\.\.)?, \['
            rb"|clone\((?:child_stack|stack)=|clone3\(\{flags="
            rb"|\w+\(.*\) += -1 E[A-Z0-9]+ \("
            rb"|<\.\.\. \w+ resumed>(?! \))"
            rb"|\+\+\+ exited with \d+ \+\+\+"
            rb"|\+\+\+ superseded by execve in pid "
            rb"|--- SIG\w+ \{si_signo=|--- stopped by SIG)"
            rb"|.*?(?:strace: Process \d+ attached|\[ Process PID=\d+ runs in )"
        ),
        re.compile(
            _PREFIX + rb"(?:\w+\(.*(?:<unfinished \.\.\.>|\) += (?:\?|-?\d+|0x[0-9a-f]+)(?:<[^<>]*>)?)"
            rb"|\+\+\+ killed by SIG\w+ (?:\(core dumped\) )?\+\+\+)"
        ),
    ),
    Format(
        "a log of ltrace",
        ltrace.read,
        re.compile(
            _PREFIX + rb"(?:SYS_\w+\(|\w+@SYS\("
            rb"|<\.\.\. (?:SYS_\w+|\w+@SYS) resumed>"
            rb"|\+\+\+ exited \((?:status \d+|unknown)"
            rb"|--- Called exec\(\) ---"
            rb"|--- SIG\w+ \([^)]*\) ---)"
        ),
    ),
    Format(
        "a log of QEMU_STRACE",
        qemu.read,
        re.compile(
            rb"\d{1,7} (?:\w+\(.*\) = -1 errno=\d+ \(|clone\([A-Z_|0-9a-fx]+,child_stack=0x|Unknown syscall \d+$"
            rb'|execve\("[^"]*",\{|\w+\(.*\) = 0x[0-9a-f]{16}$|openat\((?:-100|AT_FDCWD),")'
            rb"|qemu: uncaught target signal "
        ),
    ),
    Format("JSON of tracexec", tracexec.read, tracexec.MARK),
    Format("text of perf trace", perf_trace.read, perf_trace.LINE),
    Format("tracepoints from perf script", tracepoints.read, PERF),
    Format("tracepoints from tracefs, trace-cmd or bpftrace", tracepoints.read, TRACEFS),
)


class Summary(Struct, frozen=True):
    """What a tool prints instead of a log. ``instead``: how it writes one."""

    name: str
    line: re.Pattern[bytes]
    instead: str


_COLUMNS: Final = rb"% time +seconds +usecs/call +calls +"
SUMMARIES: Final = (
    Summary(
        "a summary of strace -c",
        re.compile(_COLUMNS + rb"errors +syscall\s*\Z"),
        "a log by strace -f -o FILE, or both by strace -f -C -o FILE",
    ),
    Summary(
        "a summary of ltrace -c", re.compile(_COLUMNS + rb"(?:errors +)?function\s*\Z"), "a log by ltrace -S -f -o FILE"
    ),
    Summary(
        "a summary of perf trace -s",
        re.compile(rb" ?Summary of events:\s*\Z"),
        "a log by perf trace -o FILE, or both by perf trace -S -o FILE",
    ),
)


def summary(head: list[bytes]) -> tuple[int, Summary] | None:
    """A summary among the first lines, which have no log, and the number of its line."""
    for number, line in enumerate(head, 1):
        for each in SUMMARIES:
            if len(line) < _SEARCHED and each.line.match(bare(line)):
                return number, each
    return None


def choose(source: LineSource, head: list[bytes]) -> Format | None:
    """Read on into ``head``, which has the first lines or none, until the lines tell whose they are."""
    certain, possible = dict.fromkeys(FORMATS, 0), dict.fromkeys(FORMATS, 0)
    size = 0
    for line in chain(list(head), _taken(source, head)):
        size += len(line)
        if b"\0" not in line:
            if (whose := _claimed(line)) is not None:
                certain[whose] += 1
            elif (whose := _claimed(line, possible=True)) is not None:
                possible[whose] += 1
        if max(certain.values()) >= _SURE or len(head) >= _LINES or size >= _BYTES:
            break
    likely = max(FORMATS, key=lambda each: (certain[each], possible[each]))
    return likely if certain[likely] or possible[likely] else None


def _taken(source: LineSource, head: list[bytes]) -> Iterator[bytes]:
    while (line := next(source, None)) is not None:
        head.append(line)
        yield line


def _claimed(line: bytes, *, possible: bool = False) -> Format | None:
    line = bare(line[:_SEARCHED])
    patterns = ((each, each.possible if possible else each.certain) for each in reversed(FORMATS))
    return next((each for each, pattern in patterns if pattern is not None and pattern.match(line)), None)
