"""The debug sections of an ELF file, read in bounded time and memory.

Of the largest sections of a large file only what is looked at is read. :mod:`forklore.elf.dwarf.units` reads them
entry by entry: pyelftools builds objects for all of a unit and cannot be stopped when the time is over.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from forklore.abi.units import Unavailable
from forklore.elf.image.image import ElfImage, Section
from forklore.linux.ours import leaving

Input = ElfImage | bytes | bytearray | mmap.mmap | str | os.PathLike[str]
"""An ELF file: as it was opened, its bytes, or its path."""

EXPANDED_LIMIT: Final = 512 << 20
_CHUNK: Final = 1 << 20
_STRING_LIMIT: Final = 64 << 10
_ZLIB: Final = 1
_LARGE: Final = frozenset({"debug_info", "debug_types", "debug_str", "debug_line_str", "debug_line"})
"""Sections that are not read as a whole."""


class BrokenDwarf(Exception):  # noqa: N818 - it says what the file is
    """Debug information that contradicts itself or that forklore does not read; the text says which."""


class OutOfTime(Exception):  # noqa: N818 - it says what happened
    """The budget is spent."""


class Budget:
    """Seconds of work on one file, spent only inside :meth:`running`: of the processor, so that a busy machine has no
    part in what is found.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._left = seconds
        self._end: float | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Spend time while inside."""
        if self._end is not None:
            yield
            return
        self._end = time.process_time() + self._left
        try:
            yield
        finally:
            self._left = max(0.0, self._end - time.process_time())
            self._end = None

    def check(self) -> None:
        """Raise :class:`OutOfTime` where nothing is left."""
        if leaving.overdue():
            raise OutOfTime("forklore was asked to leave")
        if self._end is not None and time.process_time() > self._end:
            raise OutOfTime(f"reading the debug information took more than {self.seconds:g} s")


FAILURES: Final = (
    BrokenDwarf, OutOfTime, struct.error, zlib.error, LookupError, ValueError, ArithmeticError, TypeError, OSError,
    MemoryError, RecursionError,
)  # fmt: skip
"""What reading a broken file raises: ours, and Python's at the ends of buffers and numbers."""


class DebugFile:
    """The debug sections of one ELF file (a program or its separate debug file), each read when first asked for.

    ``order`` is ``little``: :class:`Image` opens no others. Nothing here catches: what a broken file raises is in
    :data:`FAILURES`. A section that would have more than ``most`` bytes when decompressed is broken.
    """

    def __init__(self, source: Input, budget: Budget, most: int = EXPANDED_LIMIT) -> None:
        self.budget = budget
        self._most = most
        self.image: Final = _image(source)
        self.data = memoryview(self.image.data)
        self.order: Final = "little"
        self._sections: dict[str, memoryview] = {}
        self._places: dict[str, int] = {}
        """Where a section begins in the file that is read as it is looked at."""

    def section(self, name: str) -> memoryview:
        """The bytes of a section such as ``debug_info``, decompressed; empty where the file has none.

        Of those that are large in large files, only what :meth:`need` was told of can be looked at.
        """
        if name not in self._sections:
            self._sections[name] = self._read(name)
        return self._sections[name]

    def need(self, section: str, at: int, size: int) -> None:
        """Have these bytes of a section; those behind its end there are none of."""
        if section not in self._sections:
            self.section(section)
        place = self._places.get(section)
        if place is not None:
            self._read_in(place + at, min(size, len(self._sections[section]) - at))

    def _read_in(self, offset: int, size: int) -> None:
        self.image.need(offset, size)
        if not self.image.whole:
            raise BrokenDwarf("the file was cut short after it was opened")

    def string(self, section: str, offset: int) -> bytes:
        """The text at ``offset`` of a section, up to its zero byte."""
        data = self.section(section)
        if not 0 <= offset < len(data):
            raise BrokenDwarf(f"a string at {offset:#x} of .{section}, which has {len(data):#x} bytes")
        self.need(section, offset, _STRING_LIMIT)
        return cstring(data, offset)[0]

    @property
    def supplementary_link(self) -> tuple[bytes, bytes] | None:
        """The path and build-id of the file that dwz moved common entries to (.gnu_debugaltlink), if there is one."""
        data = self.section("gnu_debugaltlink")
        if not len(data):
            return None
        path, rest = cstring(data, 0)
        return path, bytes(data[rest:])

    def _read(self, name: str) -> memoryview:
        section = self.image.section(f".{name}")
        if section is None:
            return memoryview(b"")
        raw = self._raw(section)
        if section.compressed or name not in _LARGE:
            self._read_in(section.offset, len(raw))
        else:
            self._places[name] = section.offset
        if not section.compressed or not len(raw):
            return raw
        if not section.name.startswith(".z"):
            return self._compressed(raw, name)
        if bytes(raw[:4]) != b"ZLIB":
            raise BrokenDwarf(f"section {section.name} does not begin with ZLIB")
        return self._expanded(raw[12:], int.from_bytes(raw[4:12], "big"), name)

    def _raw(self, section: Section) -> memoryview:
        if section.size and section.size != section.memory_size:
            raise BrokenDwarf(f"section {section.name} goes on behind the end of the file")
        return self.data[section.offset : section.offset + section.size]

    def _compressed(self, raw: memoryview, name: str) -> memoryview:
        wide = self.image.bits == 64
        kind = int.from_bytes(raw[:4], self.order)
        size = int.from_bytes(raw[8:16] if wide else raw[4:8], self.order)
        if kind != _ZLIB:
            raise BrokenDwarf(f"section .{name} is compressed by method {kind}; only zlib ({_ZLIB}) can be read here")
        return self._expanded(raw[24 if wide else 12 :], size, name)

    def _expanded(self, packed: memoryview, size: int, name: str) -> memoryview:
        if size > self._most:
            raise BrokenDwarf(f"section .{name} would take {size >> 20} MiB when decompressed")
        unpacker = zlib.decompressobj()
        whole = bytearray()
        for start in range(0, len(packed), _CHUNK):
            piece: memoryview | bytes = packed[start : start + _CHUNK]
            while len(piece) and len(whole) < size:
                self.budget.check()
                whole += unpacker.decompress(piece, min(size - len(whole), _CHUNK * 8))
                piece = unpacker.unconsumed_tail
        if len(whole) != size:
            raise BrokenDwarf(f"section .{name} has {len(whole)} bytes when decompressed, its header says {size}")
        return memoryview(whole)


def _image(source: Input) -> ElfImage:
    if isinstance(source, ElfImage):
        return source
    if isinstance(source, str | os.PathLike):
        opened, name = ElfImage.open(source), f"{os.fspath(source)}: "
    else:
        # Bytes of a file that is mapped already serve as they are.
        opened, name = ElfImage.of_bytes(bytes(source) if isinstance(source, bytearray) else source), ""  # type: ignore[arg-type]
    if isinstance(opened, Unavailable):
        raise BrokenDwarf(f"{name}{opened.why}")
    return opened


def cstring(data: memoryview, at: int) -> tuple[bytes, int]:
    """The bytes up to the next zero byte and the position after it."""
    size = 64
    while True:
        piece = bytes(data[at : at + size])
        end = piece.find(b"\0")
        if end >= 0:
            return piece[:end], at + end + 1
        if len(piece) < size or size >= _STRING_LIMIT:
            raise BrokenDwarf("a string without an end")
        size *= 4
