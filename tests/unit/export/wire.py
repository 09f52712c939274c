"""Protocol Buffers' wire format read back, without a schema: fields by number."""

from __future__ import annotations

Fields = dict[int, list["int | bytes"]]


def fields(raw: bytes) -> Fields:
    """The fields of a message; AssertionError where the bytes are none."""
    found: Fields = {}
    at = 0
    while at < len(raw):
        key, at = varint(raw, at)
        value: int | bytes
        match key & 7:
            case 0:
                value, at = varint(raw, at)
            case 1:
                value, at = int.from_bytes(raw[at : at + 8], "little"), at + 8
            case 2:
                length, at = varint(raw, at)
                value, at = raw[at : at + length], at + length
            case kind:
                raise AssertionError(f"wire type {kind}")
        assert at <= len(raw)
        assert key >> 3 > 0
        found.setdefault(key >> 3, []).append(value)
    return found


def varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            assert value < 1 << 64
            return value, at
