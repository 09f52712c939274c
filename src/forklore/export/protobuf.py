"""Protocol Buffers' wire format, as far as Perfetto's records need it: varints, fixed words, and what has a length.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from typing import Final

_WORD: Final = (1 << 64) - 1
_TWO: Final = 1 << 14
"""What two bytes of seven bits each hold: a trace has millions of numbers, and most are below it."""
_FOUR, _SIX = 1 << 28, 1 << 42
_SHORT: Final = [
    *(bytes([value]) for value in range(128)),
    *(bytes([value & 127 | 128, value >> 7]) for value in range(128, _TWO)),
]
_FIRST: Final = [bytes([value & 127 | 128, value >> 7 | 128]) for value in range(_TWO)]
"""The first two bytes of a longer one."""


def varint(value: int) -> bytes:
    """A number of up to 64 bits; a negative one as its two's complement, as int32 and int64 have it."""
    if 0 <= value < _TWO:
        return _SHORT[value]
    if _FOUR <= value < _SIX:  # a time, as a rule
        return _FIRST[value & _TWO - 1] + _FIRST[value >> 14 & _TWO - 1] + _SHORT[value >> 28]
    value &= _WORD
    found = b""
    while value >= _TWO:
        found += _FIRST[value & _TWO - 1]
        value >>= 14
    return found + _SHORT[value]


_FIELDS: Final = 64
"""So many fields have their keys ready."""
_KEYS: Final = [[varint(field << 3 | kind) for field in range(_FIELDS)] for kind in range(3)]
_NUMBER_KEYS, _FIXED64_KEYS, _LENGTH_KEYS = _KEYS


def number(field: int, value: int) -> bytes:
    """A field of a type that is a varint."""
    return _NUMBER_KEYS[field] + (_SHORT[value] if 0 <= value < _TWO else varint(value))


def fixed64(field: int, value: int) -> bytes:
    """A field of type fixed64."""
    return _FIXED64_KEYS[field] + value.to_bytes(8, "little")


def message(field: int, content: bytes) -> bytes:
    """A field that has a length: a message, bytes, or a string in UTF-8."""
    length = len(content)
    return _LENGTH_KEYS[field] + (_SHORT[length] if length < _TWO else varint(length)) + content


def string(field: int, text: str) -> bytes:
    """A field of type string."""
    return message(field, text.encode())
