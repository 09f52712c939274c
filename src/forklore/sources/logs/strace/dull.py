"""The lines of a strace log that tell of no task, passed over without being taken apart.

Most of a log are such calls: read, mmap, openat. One pattern finds where a run of them ends. It is used where such a
line can tell the time and nothing else: the log has calls that failed or were left unfinished, so that it is none of
``strace -z``; no call is cut off in the middle; every task of the run is known, and none is stopped.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from forklore.sources.logs.assembly.assembler import Assembler
from forklore.sources.logs.assembly.dialect import CALLS
from forklore.sources.logs.assembly.ordering import Ordering
from forklore.sources.logs.printed.time_stamps import PATTERN, Kind, Stamps

_RUN: Final = 200
"""So many lines are matched at once: they are matched again where one of them has to be looked at."""
_NUMBERED: Final = rb"(%s\d{1,7})(?:<[^>\n]*+>)? ++"
_BRACKETED: Final = rb"\[pid ++(%s\d{1,7})(?:<[^>\n]*+>)?\] "
_STAMP: Final[dict[Kind, bytes]] = {
    "none": rb"",
    "since 1970": rb" *+[1-9]\d{8,11}+(?:\.\d{1,9})?+ ++",
    "since midnight": rb" *+(%s\d\d):\d\d:\d\d(?:\.\d{1,9})?+ ++",
}
_ADDRESSES: Final = rb"(?:\[ *+[0-9a-f?]++\] )*+"
_CALLS: Final = b"|".join(sorted(CALLS))
_CALL: Final = rb"(?!(?:%s)\()[a-z_]\w*+\(" % _CALLS
_RESUMED: Final = rb"<\.\.\. (?!(?:%s) )\w++ resumed>" % _CALLS


class DullLines:
    """Finds where a run of them ends: see :data:`forklore.events.lines.Dull`."""

    def __init__(self, order: Ordering, calls: Assembler, stamps: Stamps) -> None:
        self.numbered: bool | None = None
        """Whether a line begins with a number or with ``[pid``; None: with neither, so far."""
        self._order = order
        self._calls = calls
        self._stamps = stamps

    def __call__(self, part: bytes, at: int) -> int:
        """The beginning of the next line that has to be read."""
        matching, kind = self._order.matching, self._stamps.kind
        if self.numbered is None or not matching.cut_calls or self._calls.in_cut or kind not in _STAMP:
            return at
        run = _run(self.numbered, kind, matching.interleaved).match(part, at)
        if run is None:
            return at
        end, tasks = run.end(), self._order.tasks
        told: list[bytes] = _told(self.numbered).findall(part, at, end)
        if kind == "since midnight" and len(set(_hours(self.numbered).findall(part, at, end))) > 1:
            return at  # a day may begin in between
        for tid in set(told):
            task = tasks.get(int(tid))
            if task is None or task.stopped:
                end = at
        if end == at:
            end = self._until(part, at, told)
        if end > at and kind != "none":
            self._take_times(part, at, end)
        return end

    def _until(self, part: bytes, at: int, told: list[bytes]) -> int:
        for tid in told:
            task = self._order.tasks.get(int(tid))
            if task is None or task.stopped:
                break
            at = part.index(b"\n", at) + 1
        return at

    def _take_times(self, part: bytes, at: int, end: int) -> None:
        """The first and the last one: between them nothing happens that would need one."""
        self._take(part, at)
        last = part.rfind(b"\n", at, end - 1) + 1
        while last > at and self._take(part, last) is None and self._stamps.kind == "since 1970":
            last = part.rfind(b"\n", at, last - 1) + 1

    def _take(self, part: bytes, at: int) -> int | None:
        match = _STAMPED.match(part, at)
        return None if match is None else self._stamps.take(match)


_STAMPED: Final = re.compile(rb"(?:%s|%s)" % (_BRACKETED % b"?:", _NUMBERED % b"?:") + PATTERN)


@cache
def _run(numbered: bool, kind: Kind, interleaved: bool) -> re.Pattern[bytes]:
    """Up to so many lines. The first that is resumed is looked at: it tells something of the log."""
    prefix = (_NUMBERED if numbered else _BRACKETED) % b"?:"
    stamp = _STAMP[kind].replace(b"%s", b"?:")
    what = rb"(?:%s|%s)" % (_CALL, _RESUMED) if interleaved else _CALL
    return re.compile(rb"(?:%s%s%s%s[^\n]*+\n){1,%d}+" % (prefix, stamp, _ADDRESSES, what, _RUN))


@cache
def _told(numbered: bool) -> re.Pattern[bytes]:
    """Of each line of a run, whose it is."""
    return re.compile((_NUMBERED if numbered else _BRACKETED) % b"" + rb"[^\n]*+\n")


@cache
def _hours(numbered: bool) -> re.Pattern[bytes]:
    """Of each line of a run, the hour."""
    prefix, stamp = (_NUMBERED if numbered else _BRACKETED) % b"?:", _STAMP["since midnight"] % b""
    return re.compile(prefix + stamp + rb"[^\n]*+\n")
