"""Protocol Buffers' wire format, as far as Perfetto's records need it: varints, fixed words, and what has a length.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_VARINT, _FIXED64, _LENGTH = 0, 1, 2
_WORD: Final = (1 << 64) - 1
_TWO: Final = 1 << 14
"""What two bytes of seven bits each hold: a trace has millions of numbers, and most are below it."""
_SHORT: Final = [
    *(bytes([value]) for value in range(128)),
    *(bytes([value & 127 | 128, value >> 7]) for value in range(128, _TWO)),
]
_FIRST: Final = [bytes([value & 127 | 128, value >> 7 | 128]) for value in range(_TWO)]
"""The first two bytes of a longer one."""


def varint(value: int) -> bytes:
    """A number of up to 64 bits; a negative one as its two's complement, as int32 and int64 have it."""
    value &= _WORD
    if value < _TWO:
        return _SHORT[value]
    return _FIRST[value & _TWO - 1] + varint(value >> 14)


@lru_cache(maxsize=256)
def _key(field: int, kind: int) -> bytes:
    return varint(field << 3 | kind)


def number(field: int, value: int) -> bytes:
    """A field of a type that is a varint."""
    return _key(field, _VARINT) + varint(value)


def fixed64(field: int, value: int) -> bytes:
    """A field of type fixed64."""
    return _key(field, _FIXED64) + value.to_bytes(8, "little")


def message(field: int, content: bytes) -> bytes:
    """A field that has a length: a message, bytes, or a string in UTF-8."""
    return _key(field, _LENGTH) + varint(len(content)) + content


def string(field: int, text: str) -> bytes:
    """A field of type string."""
    return message(field, text.encode())
