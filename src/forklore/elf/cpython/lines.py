"""CPython's tables of line numbers: from an offset in the bytecode to a line. Objects/codeobject.c reads the same.

Tables are bytes of the traced program, and of any content.
"""

from __future__ import annotations

from typing import Final

NEW_LINE_TABLE: Final = 10
LOCATION_TABLE: Final = 11
"""The minor versions from which PEP 626 and PEP 657 hold; before them, co_lnotab."""

_NO_LINE: Final = -128
_LONGEST_VARINT: Final = 6
"""Bytes of six bits: more than a C int has."""


def line_at(minor: int, table: bytes, first: int, offset: int) -> int | None:
    """The line of the instruction at ``offset`` (bytes), of code that begins at line ``first``.

    None: the instruction belongs to no line, or the table does not reach to it.
    """
    if offset < 0:  # before the first instruction
        return first
    if minor >= LOCATION_TABLE:
        return _locations(table, first, offset)
    return _line_table(table, first, offset) if minor >= NEW_LINE_TABLE else _lnotab(table, first, offset)


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _lnotab(table: bytes, line: int, offset: int) -> int:
    """Pairs: how many bytes of code on, how many lines on (Objects/lnotab_notes.txt of 3.9)."""
    address = 0
    for position in range(0, len(table) - 1, 2):
        address += table[position]
        if address > offset:
            break
        line += _signed(table[position + 1])
    return line


def _line_table(table: bytes, line: int, offset: int) -> int | None:
    """Pairs: the length of a range of code, and how far its line is from that of the one before, or -128."""
    end = 0
    for position in range(0, len(table) - 1, 2):
        end += table[position]
        delta = _signed(table[position + 1])
        if delta != _NO_LINE:
            line += delta
        if end > offset:
            return None if delta == _NO_LINE else line
    return None


def _locations(table: bytes, line: int, offset: int) -> int | None:
    """Entries: a byte with its high bit set (kind and length in code units), then bytes without it.

    See Objects/locations.md of CPython.
    """
    end, position, size = 0, 0, len(table)
    while position < size:
        first = table[position]
        position += 1
        kind = first >> 3 & 15
        end += 2 * ((first & 7) + 1)
        if kind in (13, 14):  # PY_CODE_LOCATION_INFO_NO_COLUMNS, _LONG
            line += _signed_varint(table, position)
        elif 10 <= kind <= 12:  # _ONE_LINE0 to _ONE_LINE2
            line += kind - 10
        if end > offset:
            return None if kind == 15 else line  # _NONE
        while position < size and table[position] < 128:
            position += 1
    return None


def _signed_varint(table: bytes, position: int) -> int:
    value = 0
    for count, byte in enumerate(table[position : position + _LONGEST_VARINT]):
        value |= (byte & 63) << 6 * count
        if not byte & 64:
            break
    return -(value >> 1) if value & 1 else value >> 1
