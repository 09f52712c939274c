"""The time stamps of a log's lines: since 1970, since midnight, or since the line before."""

from __future__ import annotations

import re
from typing import Final, Literal

from forklore.events.check import TIME_LIMIT
from forklore.events.records import Clock

PATTERN: Final = (
    rb"(?: *+(?:(?P<s>\d{1,12}(?=\.)|\d{9,12})(?:\.(?P<f>\d{1,9}))?"
    rb"|(?P<h>\d\d):(?P<m>\d\d):(?P<ms>\d\d)(?:\.(?P<mf>\d{1,9}))?) ++"
    rb"(?:\(\+ +\d+(?:\.\d+)?\) )?)?"
)
"""For a larger pattern: the stamp that may stand before a call."""

Kind = Literal["none", "since 1970", "since midnight", "since the line before"]

_BILLION: Final = 1_000_000_000
_DAY: Final = 86_400 * _BILLION
_YEAR_1973: Final = 100_000_000 * _BILLION


class Stamps:
    """Turns stamps into nanoseconds since the first one; ``wall`` is that one since 1970, if known."""

    def __init__(self) -> None:
        self.wall: int | None = None
        self.resolution = 0
        """What the first stamp's last digit counts, in nanoseconds."""
        self.last: int | None = None
        self.kind: Kind = "none"
        """What the last line had."""
        self._start: int | None = None
        self._days = 0
        self._clock = 0

    def header(self) -> Clock:
        """What the first stamp, once it is taken, says of all."""
        return Clock(start=None, wall=self.wall, resolution=self.resolution)

    def take(self, match: re.Match[bytes]) -> int | None:
        """The time of a line; None of one without a stamp, or with one that no trace has room for."""
        seconds = match["s"]
        fraction = match["f"] or match["mf"] or b""
        if self.resolution == 0 and (seconds or match["h"]):
            self.resolution = int(10 ** (9 - len(fraction)))
        if seconds is not None:
            value = int(seconds) * _BILLION + int(fraction.ljust(9, b"0"))
            if value < _YEAR_1973:
                self.kind = "since the line before"
                # The first line's is the time since strace began, which is no line of the log.
                self._clock += 0 if self.last is None else value
                return self._taken(self._clock)
            self.kind = "since 1970"
            if self._start is None:
                self.wall = value
        elif (hours := match["h"]) is not None:
            self.kind = "since midnight"
            value = (int(hours) * 3600 + int(match["m"]) * 60 + int(match["ms"])) * _BILLION
            value += int(fraction.ljust(9, b"0"))
            value = self._past_midnight(value)
        else:
            return None
        if self._start is None:
            self._start = value
        return self._taken(value - self._start)

    def _taken(self, t: int) -> int | None:
        if abs(t) >= TIME_LIMIT:
            return None
        self.last = t
        return t

    def _past_midnight(self, value: int) -> int:
        value += self._days
        if value < self._clock - _DAY // 2:
            self._days += _DAY
            value += _DAY
        self._clock = value
        return value
