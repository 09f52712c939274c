"""One symbol table of an ELF file, searched without making an object for each symbol (elf(5), Elf64_Sym)."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

from forklore.elf.image.image import ElfImage, Section

STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_GNU_IFUNC = 0, 1, 2, 10
STB_GLOBAL, STB_WEAK, STB_GNU_UNIQUE = 1, 2, 10
_CODE: Final = (STT_NOTYPE, STT_FUNC, STT_GNU_IFUNC)

MAX_ENTRIES: Final = 1 << 21
"""What is looked at of a table: twice a million, and 16 MB packed."""

_MAX_NAME = 1 << 15
_MAX_ALIASES = 64
_MAX_STEPS = 64
_MAX_BLOCKS = 4
"""How far below an address a symbol is looked for: 256 KiB. A longer function is found by its beginning."""

_MAX_IN_BLOCK = 1 << 16
_MAX_CACHED_BLOCKS = 1 << 12
_BLOCK_BITS = 16
_MAX_OBJECT_BLOCKS = 16
_LOW = 2
"""Bytes of an address that are below its block."""

_TYPECODES: Final[dict[int, Literal["H", "I"]]] = {2: "H", 4: "I"}


class _Layout(Struct, frozen=True):
    """Where the fields of an entry are, in bytes; ``value_size`` is that of an address."""

    size: int
    value_at: int
    value_size: int
    whole: struct.Struct


_LAYOUTS: Final = {32: _Layout(16, 4, 4, struct.Struct("<IIIBBH")),
                   64: _Layout(24, 8, 8, struct.Struct("<IBBHQQ"))}


class SymbolEntry(Struct, frozen=True, gc=False):
    """A symbol as the table has it; ``name_at`` is st_name, ``type`` and ``binding`` the halves of st_info."""

    name_at: int
    type: int
    binding: int
    section: int
    value: int
    size: int

    @property
    def defined(self) -> bool:
        """In a section of this file: not SHN_UNDEF, SHN_ABS or SHN_COMMON (SHN_XINDEX is in one)."""
        return 0 < self.section < 0xFF00 or self.section == 0xFFFF

    @property
    def code(self) -> bool:
        """A function, or a label of assembly, in this file."""
        return self.type in _CODE and self.defined


class Table:
    """A symbol table at ``offset`` of an image with ``count`` entries, names between ``strings`` and ``strings_end``.

    Numbers are held to what is in the file. ``numbered``: st_shndx can be looked up in the image's sections.
    """

    def __init__(self, image: ElfImage, offset: int, count: int, strings: int, strings_end: int, *,
                 numbered: bool) -> None:
        self.image: Final = image
        self.numbered: Final = numbered
        self._layout = _LAYOUTS[image.bits]
        room = max(image.size - offset, 0) // self._layout.size
        self.count: Final = min(count, room, MAX_ENTRIES)
        self._offset = offset
        self._strings = min(strings, image.size)
        self._strings_end = min(strings_end, image.size)
        self._packed: dict[int, bytes] = {}
        self._blocks: dict[int, tuple[array[int], array[int]]] = {}

    def entry(self, number: int) -> SymbolEntry:
        """The symbol of that number, which is below ``count``."""
        place = self._offset + number * self._layout.size
        self.image.need(place, self._layout.size)
        fields = self._layout.whole.unpack_from(self.image.data, place)
        if self._layout.value_size == 8:
            name, info, _, section, value, size = fields
        else:
            name, value, size, info, _, section = fields
        return SymbolEntry(name, info & 15, info >> 4, section, value, size)

    def name(self, entry: SymbolEntry) -> bytes:
        """A symbol's name without its version (``@GLIBC_2.34``, which linkers write into .symtab)."""
        start = self._strings + entry.name_at
        limit = min(start + _MAX_NAME, self._strings_end)
        if start >= limit:
            return b""
        self.image.need(start, limit - start)
        end = self.image.data.find(b"\0", start, limit)
        name = self.image.data[start:limit if end < 0 else end]
        version = name.find(b"@", 1)
        return name if version < 0 else name[:version]

    def starting(self, value: int) -> list[SymbolEntry]:
        """The functions and labels with exactly this value, at most 64."""
        values, numbers = self._block(value >> _BLOCK_BITS)
        first = bisect_left(values, value)
        last = bisect_right(values, value, first, min(first + _MAX_ALIASES, len(values)))
        return [self.entry(number) for number in numbers[first:last]]

    def before(self, address: int) -> Iterator[SymbolEntry]:
        """Functions and labels whose value is at most ``address``, nearest first, as far back as is sensible."""
        left = _MAX_STEPS
        block = address >> _BLOCK_BITS
        for place in range(block, max(block - _MAX_BLOCKS, -1), -1):
            values, numbers = self._block(place)
            end = bisect_right(values, address)
            for number in reversed(numbers[max(end - left, 0):end]):
                yield self.entry(number)
            left -= min(left, end)

    def object_at(self, address: int) -> SymbolEntry | None:
        """The variable whose size covers an address; of several the smallest. It may begin some blocks before."""
        found: SymbolEntry | None = None
        block = address >> _BLOCK_BITS
        for place in range(block, max(block - _MAX_OBJECT_BLOCKS, -1), -1):
            for entry in self._in_block(place):
                covers = entry.value <= address < entry.value + entry.size
                if covers and entry.type == STT_OBJECT and entry.defined and (found is None or entry.size < found.size):
                    found = entry
            if found is not None:
                return found
        return None

    def called(self, name: bytes) -> Iterator[SymbolEntry]:
        """The symbols of that name, by a search through the strings: for tables without a hash."""
        for offset in self._spelled(name):
            for number in self._find(0, offset.to_bytes(4, "little"), _MAX_ALIASES):
                entry = self.entry(number)
                if self.name(entry) == name:
                    yield entry

    def _spelled(self, name: bytes) -> Iterator[int]:
        """Offsets in the strings at which the name is found; linkers merge a name into the end of a longer one."""
        data, tries = self.image.data, 0
        self.image.need(self._strings, self._strings_end - self._strings)
        for needle in (b"\0" + name + b"\0", b"\0" + name + b"@", name + b"\0"):
            skip = needle.startswith(b"\0")
            at = data.find(needle, self._strings, self._strings_end)
            while at >= 0 and tries < _MAX_ALIASES:
                tries += 1
                yield at + skip - self._strings
                at = data.find(needle, at + 1, self._strings_end)

    def _block(self, block: int) -> tuple[array[int], array[int]]:
        """The code symbols in 64 KiB of addresses: their values in order, and their numbers in that order.

        A search for the upper half of the address through all of them is a hundred times as fast as sorting them,
        and a program's calls come out of few such blocks.
        """
        found = self._blocks.get(block)
        if found is None:
            pairs = sorted((entry.value, number) for number, entry in self._numbered(block) if entry.code)
            if len(self._blocks) >= _MAX_CACHED_BLOCKS:
                self._blocks.clear()
            found = array("Q", [value for value, _ in pairs]), array("I", [number for _, number in pairs])
            self._blocks[block] = found
        return found

    def _numbered(self, block: int) -> Iterator[tuple[int, SymbolEntry]]:
        size = self._layout.value_size - _LOW
        needle = (block & (1 << 8 * min(size, 4)) - 1).to_bytes(min(size, 4), "little")
        for number in self._find(self._layout.value_at + _LOW, needle, _MAX_IN_BLOCK):
            entry = self.entry(number)
            if entry.value >> _BLOCK_BITS == block:
                yield number, entry

    def _in_block(self, block: int) -> Iterator[SymbolEntry]:
        return (entry for _number, entry in self._numbered(block))

    def _find(self, at: int, needle: bytes, limit: int) -> Iterator[int]:
        """The entries that have these bytes at that offset in them."""
        column, width = self._column(at, len(needle)), len(needle)
        place = column.find(needle)
        while place >= 0 and limit:
            if place % width == 0:
                limit -= 1
                yield place // width
            place = column.find(needle, (place // width + 1) * width)

    def _column(self, at: int, width: int) -> bytes:
        """Two or four bytes of every entry, packed: searched six times as fast as among the others."""
        packed = self._packed.get(at)
        if packed is None and self.count:
            # The last entry apart: a slice that begins inside the first would end beyond the last.
            first, step = self._offset + at % width, self._layout.size
            self.image.need(self._offset, self.count * step)
            raw = memoryview(self.image.data)[first:first + (self.count - 1) * step]
            fields = raw.cast("B").cast(_TYPECODES[width])
            last = self._offset + (self.count - 1) * step + at
            packed = fields[at // width::step // width].tobytes() + self.image.data[last:last + width]
            self._packed[at] = packed
        return packed or b""


def section_table(image: ElfImage, name: str) -> Table | None:
    """The symbol table in a section (``.symtab``, ``.dynsym``), with the strings that its sh_link names."""
    section = image.section(name)
    strings: Section | None = None if section is None else image.section_number(section.link)
    if section is None or strings is None or not section.size:
        return None
    count = section.size // _LAYOUTS[image.bits].size
    return Table(image, section.offset, count, strings.offset, strings.offset + strings.size, numbered=True)
