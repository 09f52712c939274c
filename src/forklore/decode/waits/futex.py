"""futex(2) as it waits: the word, the value that it had, and how long."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from forklore.abi.units import LOW32, Address

WAIT, LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2 = 0, 6, 9, 11, 13
PRIVATE, CLOCK_REALTIME = 128, 256
"""linux/futex.h: FUTEX_*."""
_COMMAND: Final = 127
_NAMES: Final = {
    WAIT: "FUTEX_WAIT", LOCK_PI: "FUTEX_LOCK_PI", WAIT_BITSET: "FUTEX_WAIT_BITSET",
    WAIT_REQUEUE_PI: "FUTEX_WAIT_REQUEUE_PI", LOCK_PI2: "FUTEX_LOCK_PI2",
}  # fmt: skip
_FLAG2_PRIVATE: Final = 128  # FUTEX2_PRIVATE
_WAITER: Final = struct.Struct("<QQII")
"""include/uapi/linux/futex.h: struct futex_waitv."""
MOST: Final = 128
"""FUTEX_WAITV_MAX."""
WAITERS: Final = 0x8000_0000
OWNER_DIED: Final = 0x4000_0000
TID_MASK: Final = 0x3FFF_FFFF
"""Of a word of robust and PI locks: bits 0 to 29 are the owner's tid in its pid namespace."""


class FutexWait(Struct, frozen=True):
    """A wait for a futex."""

    address: Address
    command: int
    value: int
    """What the word had when the wait began."""
    private: bool
    """Only tasks that share the memory can wake it."""
    timeout: Address
    """0: without end."""
    absolute: bool
    """Whether the time is a point of a clock, and not a span."""
    realtime: bool
    requeued_to: Address | None = None
    """Of FUTEX_WAIT_REQUEUE_PI: the lock that follows."""

    @property
    def inherits(self) -> bool:
        """Whether the word is of a lock with priority inheritance, whose owner the kernel knows by it."""
        return self.command in (LOCK_PI, LOCK_PI2)

    @property
    def name(self) -> str:
        """``FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME``."""
        text = _NAMES.get(self.command, f"operation {self.command}") + ("_PRIVATE" if self.private else "")
        return text + ("|FUTEX_CLOCK_REALTIME" if self.realtime and self.command != LOCK_PI else "")


def futex_wait(name: str, words: Sequence[int]) -> FutexWait | None:
    """The wait in a call of futex or futex_wait; None: the call does not wait, or for several words."""
    if name == "futex_wait":
        return FutexWait(Address(words[0]), WAIT_BITSET, words[1] & LOW32, bool(words[3] & _FLAG2_PRIVATE),
                         Address(words[4]), absolute=True, realtime=words[5] & LOW32 == 0)  # fmt: skip
    if name != "futex" or len(words) < 5:
        return None
    operation = words[1] & LOW32
    command = operation & _COMMAND
    if command not in _NAMES:
        return None
    return FutexWait(
        Address(words[0]), command, words[2] & LOW32, bool(operation & PRIVATE), Address(words[3]),
        absolute=command != WAIT, realtime=command == LOCK_PI or bool(operation & CLOCK_REALTIME),
        requeued_to=Address(words[4]) if command == WAIT_REQUEUE_PI else None,
    )  # fmt: skip


def futexes_waited_for(raw: bytes) -> list[Address]:
    """Of the list that futex_waitv(2) is given: where the words lie."""
    return [Address(place) for _value, place, _flags, _reserved in _WAITER.iter_unpack(raw)]


def futex_list_size(count: int) -> int:
    """Bytes of a list of so many words for futex_waitv(2)."""
    return _WAITER.size * min(count, MOST)
