"""When a wait ends by itself: what its call was given, and how long it has lasted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from forklore.abi.units import LOW32, Nanoseconds, signed
from forklore.decode.waits.calls import TIMER_ABSTIME, Patience, Waiting
from forklore.decode.waits.futex import FutexWait

_SECOND: Final = 1_000_000_000
Read = Callable[[int, int], bytes | None]


def end_of(
    waiting: Waiting,
    words: tuple[int, ...],
    asleep: int | None,
    read: Read,
    *,
    wide: bool,
    futex: FutexWait | None = None,
) -> tuple[bool, Nanoseconds | None]:
    """Whether a call has an end of its own, and how far that is; None: not known."""
    match waiting.patience:
        case None:
            return False, None
        case Patience.MILLISECONDS:
            span = signed(words[waiting.timeout])
            return (False, None) if span < 0 else (True, _left(span * 1_000_000, asleep))
        case Patience.FUTEX:
            if futex is None or not futex.timeout:
                return False, None
            return True, _by(futex.timeout, read, asleep, wide=wide, absolute=futex.absolute, real=futex.realtime)
        case Patience.CLOCK:
            absolute = bool(words[1] & TIMER_ABSTIME)
            return True, _by(words[2], read, asleep, wide=wide, absolute=absolute, real=words[0] & LOW32 == 0)
        case _:
            place = words[waiting.timeout]
            if not place:
                return False, None
            scale = 1000 if waiting.patience is Patience.TIMEVAL else 1
            until = waiting.patience is Patience.UNTIL
            return True, _by(place, read, asleep, wide=wide, absolute=until, real=until, scale=scale)


def _by(
    place: int, read: Read, asleep: int | None, *, wide: bool, absolute: bool, real: bool, scale: int = 1
) -> Nanoseconds | None:
    size = 8 if wide else 4
    raw = read(place, 2 * size)
    if raw is None:
        return None
    given = int.from_bytes(raw[:size], "little", signed=True) * _SECOND
    given += int.from_bytes(raw[size:], "little", signed=True) * scale
    if not absolute:
        return _left(given, asleep)
    clock = time.CLOCK_REALTIME if real else time.CLOCK_MONOTONIC
    return Nanoseconds(max(0, given - time.clock_gettime_ns(clock)))


def _left(span: int, asleep: int | None) -> Nanoseconds | None:
    return None if asleep is None else Nanoseconds(max(0, span - asleep))
