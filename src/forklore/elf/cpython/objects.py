"""Objects in the memory of a traced CPython: code objects, strings, bytes. None of it is believed."""

from __future__ import annotations

import struct
from typing import Final

from msgspec import Struct

from forklore.elf.cpython.layout import ABSENT, CPythonLayout, Read
from forklore.elf.cpython.lines import line_at

PAGE: Final = 4096
MOST_PAGES: Final = 1 << 10
MOST_KEPT: Final = 1 << 23
"""Bytes of tables of lines that are kept with the lines found in them."""
LONGEST_TEXT: Final = 4096
"""Characters of a name; a longer one is cut, and ends in ``…``."""
LARGEST_TABLE: Final = 1 << 18
"""Bytes of a table of lines; a frame whose code has a larger one has no line."""
TABLES_A_STACK: Final = 1 << 19
"""Bytes of all of them in one stack."""

_TYPE_NAME: Final = 12
_TOP: Final = 1 << 63
_word = struct.Struct("<Q").unpack_from
_int = struct.Struct("<i").unpack_from
_uint = struct.Struct("<I").unpack_from
_ENTRY: Final = 512
"""About what a table costs besides its bytes."""
_ENCODINGS: Final = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}


class UnreadableError(Exception):
    """What was in the way of reading on: the end of a stack, in words."""


class ObjectMemory:
    """A traced program's memory, by addresses that it gave and that may be anything.

    Pages are read whole and kept until :meth:`forget`: a read costs a system call, and frames, code objects and their
    strings lie close to others of their kind.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._pages: dict[int, bytes | None] = {}

    def forget(self) -> None:
        """The program may have run since."""
        self._pages.clear()

    def _page(self, start: int) -> bytes | None:
        page = self._read(start, PAGE) if 0 < start < _TOP else None
        if page is not None and len(page) != PAGE:
            page = None
        if len(self._pages) >= MOST_PAGES:
            self._pages.clear()
        self._pages[start] = page
        return page

    def get(self, address: int, size: int) -> bytes | None:
        """All of ``size`` bytes, or None."""
        offset = address & PAGE - 1
        start = address - offset
        try:
            page = self._pages[start]
        except KeyError:
            page = self._page(start)
        if page is None or offset + size <= PAGE:
            return page and page[offset : offset + size]
        rest = self.get(start + PAGE, size - (PAGE - offset))
        return rest and page[offset:] + rest

    def exactly(self, address: int, size: int, what: str) -> bytes:
        """All of ``size`` bytes; :class:`UnreadableError`."""
        raw = self.get(address, size)
        if raw is None:
            raise UnreadableError(f"{what} at {address:#x}, which cannot be read")
        return raw

    def pointer(self, address: int) -> int:
        """The word at ``address``; :class:`UnreadableError`."""
        return int(_word(self.exactly(address, 8, "a pointer"))[0])


class CodeObject(Struct, frozen=True):
    """What is read of a code object: addresses of its strings and its table of lines."""

    address: int
    name: int
    file: int
    lines: int
    first_line: int
    first_traceable: int
    """In code units; 0 before 3.11."""


class Objects:
    """Reads objects of one interpreter.

    An address tells nothing from one stack to the next: code objects are freed, and others take their places. What is
    kept is the line that an offset has in a table of a given content.
    """

    def __init__(self, layout: CPythonLayout, memory: ObjectMemory, code_type: int | None) -> None:
        self._layout = layout
        self._memory = memory
        self._code_type = code_type
        fields = (layout.code_filename, layout.code_name, layout.code_lines, layout.code_first_line)
        self._code_size = 8 + max(*fields, layout.code_first_traceable)
        self._texts: dict[int, bytes] = {}
        self._kept: dict[bytes, dict[tuple[int, int], int | None]] = {}
        self._kept_size = 0
        self._left = 0

    def begin(self) -> None:
        """Another stack begins."""
        self._texts.clear()
        self._left = TABLES_A_STACK

    def code(self, address: int) -> CodeObject:
        """The code object at ``address``; :class:`UnreadableError` where there is none."""
        layout = self._layout
        raw = self._memory.exactly(address, self._code_size, "a code object")
        type_ = _word(raw, layout.object_type)[0]
        if type_ != self._code_type:
            self._check_type(type_, address)
        traceable = layout.code_first_traceable
        return CodeObject(
            address,
            _word(raw, layout.code_name)[0],
            _word(raw, layout.code_filename)[0],
            _word(raw, layout.code_lines)[0],
            _int(raw, layout.code_first_line)[0],
            0 if traceable == ABSENT else _int(raw, traceable)[0],
        )

    def _check_type(self, type_: int, address: int) -> None:
        if self._code_type is None and type_:
            name = self._memory.pointer(type_ + self._layout.type_name)
            if self._memory.get(name, 5) == b"code\0":
                self._code_type = type_
                return
        raise UnreadableError(f"a frame whose code at {address:#x} is no code object")

    def type_name(self, address: int) -> bytes:
        """The first letters of what an object's type calls itself; :class:`UnreadableError`."""
        type_ = self._memory.pointer(address + self._layout.object_type)
        name = self._memory.pointer(type_ + self._layout.type_name)
        return self._memory.exactly(name, _TYPE_NAME, "a type's name").partition(b"\0")[0]

    def text(self, address: int) -> bytes:
        """A str as UTF-8, bytes that could not be decoded as they were; :class:`UnreadableError`."""
        known = self._texts.get(address)
        if known is None:
            known = self._texts[address] = self._text(address)
        return known

    def _text(self, address: int) -> bytes:
        layout, memory = self._layout, self._memory
        raw = memory.exactly(address, layout.unicode_ascii_size, "a str")
        length = _word(raw, layout.unicode_length)[0]
        state = _uint(raw, layout.unicode_state)[0]
        width = state >> layout.unicode_kind_shift & 7
        if width not in _ENCODINGS or not state >> layout.unicode_compact_shift & 1 or length >= _TOP:
            raise UnreadableError(f"a name at {address:#x} that is no str")
        cut = length > LONGEST_TEXT
        size = LONGEST_TEXT * width if cut else length * width
        if state >> layout.unicode_ascii_shift & 1:
            data = memory.exactly(address + layout.unicode_ascii_size, size, "a str")
        else:
            data = _utf8(memory.exactly(address + layout.unicode_compact_size, size, "a str"), _ENCODINGS[width])
        return data + "…".encode() if cut else data

    def line(self, code: CodeObject, offset: int) -> int | None:
        """The line of the instruction ``offset`` bytes into the code; None where there is none or it cannot be told."""
        layout, memory = self._layout, self._memory
        head = memory.get(code.lines, layout.bytes_data)
        if head is None:
            return None
        size = _word(head, layout.bytes_size)[0]
        if size > min(LARGEST_TABLE, self._left):
            return None
        table = memory.get(code.lines + layout.bytes_data, size)
        if table is None:
            return None
        lines = self._kept.get(table)
        if lines is None:
            lines = self._keep(table)
        key = (code.first_line, offset)
        if key not in lines:
            self._left -= size
            if len(lines) > size:  # more than a table has entries: not an honest one
                lines.clear()
            lines[key] = line_at(layout.minor, table, code.first_line, offset)
        return lines[key]

    def _keep(self, table: bytes) -> dict[tuple[int, int], int | None]:
        self._kept_size += len(table) + _ENTRY
        if self._kept_size > MOST_KEPT:
            self._kept.clear()
            self._kept_size = len(table) + _ENTRY
        lines: dict[tuple[int, int], int | None] = {}
        self._kept[table] = lines
        return lines


def _utf8(data: bytes, encoding: str) -> bytes:
    try:
        text = data.decode(encoding, "surrogatepass" if encoding != "latin-1" else "strict")
    except UnicodeDecodeError:
        text = data.decode(encoding, "replace")
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
