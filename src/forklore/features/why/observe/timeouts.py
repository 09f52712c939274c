"""When a wait ends by itself: what its call was given, and how long it has lasted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from forklore.abi.units import Nanoseconds, signed
from forklore.decode.waits.calls import TIMER_ABSTIME, Patience, Waiting
from forklore.decode.waits.futex import FutexWait

_SECOND: Final = 1_000_000_000
_CLOCKS: Final = {
    0: time.CLOCK_REALTIME, 1: time.CLOCK_MONOTONIC, 5: time.CLOCK_REALTIME, 6: time.CLOCK_MONOTONIC,
    7: time.CLOCK_BOOTTIME, 8: time.CLOCK_REALTIME, 9: time.CLOCK_BOOTTIME, 11: time.CLOCK_TAI,
}  # fmt: skip
"""Which clock tells how far a point of a clock is (include/uapi/linux/time.h); those of processor time are not here."""
_OF_NAMESPACE: Final = frozenset({time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME})
"""A time namespace shifts these (time_namespaces(7))."""
Read = Callable[[int, int], bytes | None]


def end_of(
    waiting: Waiting,
    words: tuple[int, ...],
    asleep: int | None,
    read: Read,
    *,
    wide: bool,
    ours: bool = True,
    futex: FutexWait | None = None,
) -> tuple[bool, Nanoseconds | None]:
    """Whether a call has an end of its own, and how far that is; None: not known.

    ``wide``: its times are of 64 bits. ``ours``: its task is in our time namespace.
    """

    def at(place: int, clock: int | None, scale: int = 1) -> Nanoseconds | None:
        point = None if clock is None else _CLOCKS.get(clock)
        if clock is not None and (point is None or (point in _OF_NAMESPACE and not ours)):
            return None
        return _by(place, read, asleep, wide=wide, clock=point, scale=scale)

    match waiting.patience:
        case None:
            return False, None
        case Patience.MILLISECONDS:
            span = signed(words[waiting.timeout])
            return (False, None) if span < 0 else (True, _left(span * 1_000_000, asleep))
        case Patience.FUTEX:
            if futex is None or not futex.timeout:
                return False, None
            return True, at(futex.timeout, (0 if futex.realtime else 1) if futex.absolute else None)
        case Patience.CLOCK:
            clock = signed(words[0])
            if not words[1] & TIMER_ABSTIME:
                # Processor time goes by as the program runs, not as time does.
                return True, at(words[2], None) if clock in _CLOCKS else None
            return True, at(words[2], clock)
        case _:
            place = words[waiting.timeout]
            if not place:
                return False, None
            scale = 1000 if waiting.patience is Patience.TIMEVAL else 1
            if waiting.patience is Patience.POINT:
                return True, at(place, signed(words[waiting.timeout + 1]))
            return True, at(place, 0 if waiting.patience is Patience.UNTIL else None, scale)


def _by(place: int, read: Read, asleep: int | None, *, wide: bool, clock: int | None, scale: int) -> Nanoseconds | None:
    size = 8 if wide else 4
    raw = read(place, 2 * size)
    if raw is None:
        return None
    given = int.from_bytes(raw[:size], "little", signed=True) * _SECOND
    given += int.from_bytes(raw[size:], "little", signed=True) * scale
    if clock is None:
        return _left(given, asleep)
    return Nanoseconds(max(0, given - time.clock_gettime_ns(clock)))


def _left(span: int, asleep: int | None) -> Nanoseconds | None:
    return None if asleep is None else Nanoseconds(max(0, span - asleep))
