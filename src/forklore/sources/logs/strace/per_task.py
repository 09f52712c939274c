"""What ``strace -ff -o PREFIX`` writes, a file a task, read as one log.

The lines are put in order by their time stamps. A file is begun when the call that returned its task's pid has been
read, so that this order holds where there are no stamps as well: then a task is read to its end where it was made. A
file that nothing in the set announces begins with the earliest line of all.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from heapq import heappop, heappush
from pathlib import Path
from typing import IO, Final

from msgspec import Struct

from forklore.abi.units import PID_LIMIT
from forklore.events.lines import LineSource, TraceError, open_lines
from forklore.sources.logs.printed.time_stamps import PATTERN

_NAME: Final = re.compile(r"(.*)\.(\d{1,7})")
_STAMP: Final = re.compile(PATTERN)
_MADE: Final = re.compile(
    rb" *(?:[\d.:]+ +)?(?:(?:clone3?|v?fork)\(|<\.\.\. (?:clone3?|v?fork) resumed>)"
    rb".*\) += (\d{1,7})(?: /\* (\d{1,7}) in strace's PID NS \*/)?"
)
_DAY: Final = 86_400
_EXPECTED: Final = "files of one strace -ff -o, named PREFIX.PID"


class _Line(Struct, frozen=True, order=True):
    """Ordered by time, then by how its file was begun: the last one that was announced is first."""

    time: float
    begun: int
    pid: int
    text: bytes


class FileSet(io.RawIOBase):
    """The lines of all files in order, each with its task's pid before it, as a stream."""

    def __init__(self, files: dict[int, Path]) -> None:
        self._files = files
        self._lines = self._merged()
        self._rest = b""

    def readable(self) -> bool:
        """A stream to read."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer."""
        while not self._rest:
            line = next(self._lines, None)
            if line is None:
                return 0
            self._rest = _numbered(line)
        part = self._rest[: len(buffer)]
        buffer[: len(part)] = part
        self._rest = self._rest[len(part) :]
        return len(part)

    def place(self, number: int) -> str:
        """The file that the line came from, and where in it, as messages name it."""
        counts: dict[int, int] = {}
        for place, line in enumerate(self._merged(), 1):
            counts[line.pid] = counts.get(line.pid, 0) + 1
            if place == number:
                return f"{self._files[line.pid]}:{counts[line.pid]}"
        return f"{number}"

    def _merged(self) -> Iterator[_Line]:
        announced = set[int]()
        for pid, path in self._files.items():
            announced |= {made for made in _announced(path) if made != pid}
        waiting = dict(self._files)
        heap: list[tuple[_Line, Iterator[_Line]]] = []

        def push(lines: Iterator[_Line]) -> None:
            if (line := next(lines, None)) is not None:
                heappush(heap, (line, lines))

        for place, pid in enumerate(self._files):
            if pid not in announced:
                push(_lines(pid, waiting.pop(pid), 0.0, place))
        begun = 0
        while heap or waiting:
            if not heap:  # those that are left announce each other
                pid = next(iter(waiting))
                push(_lines(pid, waiting.pop(pid), 0.0, 0))
                continue
            line, rest = heappop(heap)
            yield line
            for pid in _made(line.text):
                if pid in waiting:
                    # The youngest is first among lines of one time: without stamps, it is read to its end.
                    begun -= 1
                    push(_lines(pid, waiting.pop(pid), line.time, begun))
            push(rest)


def _lines(pid: int, path: Path, since: float, begun: int) -> Iterator[_Line]:
    with closing(open_lines(path)) as source:
        last = since
        days = since // _DAY * _DAY
        for text in source:
            seconds, text = _stamped(text)
            if seconds is not None:
                if seconds < _DAY:
                    days += _DAY * (seconds + days < last - _DAY / 2)
                    seconds += days
                last = max(last, seconds)
            yield _Line(last, begun, pid, text)


def _stamped(text: bytes) -> tuple[float | None, bytes]:
    """The time of a line, and the line as it is passed on: without one that counts from the line before in its file."""
    match = _STAMP.match(text)
    if match is None or not match.group():
        return None, text
    if match["s"] is not None:
        whole = int(match["s"])
        if whole < _DAY:
            return None, text[match.end() :]
        return whole + float(b"0." + (match["f"] or b"0")), text
    whole = int(match["h"]) * 3600 + int(match["m"]) * 60 + int(match["ms"])
    return whole + float(b"0." + (match["mf"] or b"0")), text


def _announced(path: Path) -> Iterator[int]:
    with closing(open_lines(path)) as source:
        for text in source:
            yield from _made(text)


def _made(text: bytes) -> Iterable[int]:
    match = _MADE.match(text)
    return () if match is None else (int(match[2] or match[1]),)


def _numbered(line: _Line) -> bytes:
    return b"%d %s" % (line.pid, line.text if line.text.endswith(b"\n") else line.text + b"\n")


class _SetSource(LineSource):
    """The lines of a set, each named by its own file."""

    def __init__(self, files: FileSet, name: str) -> None:
        stream: IO[bytes] = io.BufferedReader(files, 1 << 18)
        super().__init__(stream, name)
        self._set = files

    def place_of(self, number: int) -> str:
        """The file of the line."""
        return self._set.place(number)


def open_set(paths: Iterable[str | os.PathLike[str]]) -> LineSource:
    """The files as one log. Raises OSError, and TraceError where they are no set."""
    named: dict[int, Path] = {}
    prefixes = set[str]()
    for path in map(Path, paths):
        match = _NAME.fullmatch(path.name)
        pid = 0 if match is None else int(match[2])
        if match is None or not 0 < pid < PID_LIMIT:
            raise TraceError(str(path), 0, _EXPECTED, f"the name “{path.name}”")
        prefixes.add(str(path.parent / match[1]))
        named[pid] = path
    if len(prefixes) != 1:
        raise TraceError(", ".join(sorted(prefixes)) or "no file", 0, _EXPECTED, f"{len(prefixes)} prefixes")
    (prefix,) = prefixes
    for path in named.values():
        path.open("rb").close()  # what cannot be read is told before anything is shown
    return _SetSource(FileSet(dict(sorted(named.items()))), f"{prefix}.*")


def files_below(path: str | os.PathLike[str]) -> list[Path]:
    """The files of a directory, or those that have PATH as their prefix, that ``strace -ff`` may have written."""
    given = Path(path)
    folder, prefix = (given, None) if given.is_dir() else (given.parent, given.name)
    found = ((each, _NAME.fullmatch(each.name)) for each in folder.iterdir()) if folder.is_dir() else ()
    return [each for each, match in found if match is not None and prefix in (None, match[1])]
