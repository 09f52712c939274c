"""What the objects are made of: task numbers, times, and strings of traced programs."""

from __future__ import annotations

from typing import Annotated, overload

from msgspec import Meta, Struct

from forklore.abi.units import Unavailable
from forklore.events import records as ev

TaskNumber = Annotated[int, Meta(title="task number", ge=1)]
Time = Annotated[int | None, Meta(title="time")]
"""Nanoseconds since the start of the trace; null where a log has no time stamps."""
Span = Annotated[int, Meta(title="nanoseconds")]

Word = Annotated[int, Meta(title="word", ge=0, le=2**53 - 1)] | Annotated[str, Meta(pattern="^0x[0-9a-f]{14,}$")]
"""A number of up to 64 bits; where it has more than 53, which many readers of JSON do not keep, in hexadecimal."""

Limit = Annotated[int, Meta(title="number", le=2**53 - 1)] | Annotated[str, Meta(pattern="^0x[0-9a-f]{14,}$")]
"""The same of what was read of a limit."""


@overload
def word(value: int) -> Word: ...
@overload
def word(value: int | None) -> Word | None: ...
def word(value: int | None) -> Word | None:
    """A number as a :data:`Word`."""
    return value if value is None or value >> 53 == 0 else hex(value)


def limit(value: int) -> Limit:
    """A number as a :data:`Limit`."""
    return value if value < 1 << 53 else hex(value)


class UnavailableObject(Struct, frozen=True, gc=False):
    """What could not be read."""

    unavailable: str
    """Why."""
    errno: int
    """Of the call that failed; 0 where none did."""


def unavailable(problem: Unavailable) -> UnavailableObject:
    """The object of what could not be read."""
    return UnavailableObject(problem.why, problem.errno)


def told(value: bytes | Unavailable) -> ev.Text | UnavailableObject:
    """A string that was read or could not be."""
    return ev.text(value) if isinstance(value, bytes) else unavailable(value)


def named(value: bytes | None) -> ev.Text | None:
    """A string that there need not be."""
    return None if value is None else ev.text(value)
