"""LEB128 numbers (DWARF 5, 7.6)."""

from __future__ import annotations

from typing import Final, Protocol

_LONGEST: Final = 16  # 64 bits take ten bytes; assemblers pad a few


class Bytes(Protocol):
    """What can be indexed like bytes: bytes, mmap, memoryview."""

    def __getitem__(self, index: int, /) -> int: ...


def unsigned(data: Bytes, at: int) -> tuple[int, int]:
    """The number at ``at`` and where the next thing begins. IndexError where it does not end."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value = shift = 0
    for position in range(at, at + _LONGEST):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    raise IndexError(f"the LEB128 number at {at} does not end")


def signed(data: Bytes, at: int) -> tuple[int, int]:
    """As :func:`unsigned`, in two's complement."""
    value, end = unsigned(data, at)
    bits = 7 * (end - at)
    return (value - (1 << bits) if value >> (bits - 1) else value), end
