"""A static C library: an ar archive of object files with an index of the symbols that they define (ar(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from forklore.abi.text import as_text
from forklore.features.audit.static.elf_file import FileHead, identify

MAGIC: Final = b"!<arch>\n"
THIN: Final = b"!<thin>\n"
"""Of an archive that names its members' files instead of holding them."""
SYMBOL_LIMIT: Final = 1_000_000

_HEADER: Final = 60
_INDICES: Final = {"/": 4, "/SYM64/": 8}
"""Names of the index, each with the bytes of a number in it."""
_MUSL: Final = re.compile(rb"(?<![\d.])(\d{1,3}\.\d{1,3}\.\d{1,3}(?:-git-\d{1,6}-g[0-9a-f]{4,40})?)\0")
_MUSL_ONLY: Final = frozenset({"__init_libc", "__block_app_sigs"})


class BrokenArchiveError(Exception):
    """No ar archive, or a broken one; the text goes on from the file's name."""


class Archive(Struct, frozen=True):
    """What the members define, and what the first of them and musl's ``version.lo`` say of their library."""

    symbols: frozenset[str]
    first: FileHead
    """The head of the first object file."""
    musl: str | None
    """musl's version, ``unknown`` where no member tells it; None: it is not musl's archive."""


def members(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and contents of each member, names as they are written. BrokenArchiveError."""
    if not raw.startswith(MAGIC):
        raise BrokenArchiveError("is no ar archive")
    position = len(MAGIC)
    while position + _HEADER <= len(raw):
        header = raw[position : position + _HEADER]
        name, size = header[:16].decode("ascii", "replace").strip(), header[48:58].strip()
        if header[58:] != b"`\n" or not size.isdigit():
            raise BrokenArchiveError(f"is a broken ar archive at byte {position}")
        start = position + _HEADER
        end = start + int(size)
        if end > len(raw):
            raise BrokenArchiveError(f"ends within {name!r}: it was cut short")
        yield name, raw[start:end]
        position = end + end % 2


def read(raw: bytes, name: str) -> Archive:
    """The archive in ``raw``. BrokenArchiveError, or BrokenElfError for a first member that is no object file."""
    symbols: frozenset[str] | None = None
    first: FileHead | None = None
    version: str | None = None
    for member, data in members(raw):
        if member in _INDICES:
            symbols = _index(data, _INDICES[member])
        elif member != "//":
            first = first or identify(data, f"{name}({member.rstrip('/')})")
            if member.startswith("version."):  # musl src/internal/version.c
                found = _MUSL.search(data)
                version = version or (found[1].decode() if found else None)
    if symbols is None:
        raise BrokenArchiveError("has no index of symbols: make one with `ranlib`, or it is no library")
    if first is None:
        raise BrokenArchiveError("holds no object file")
    return Archive(symbols, first, (version or "unknown") if symbols >= _MUSL_ONLY else None)


def _index(data: bytes, width: int) -> frozenset[str]:
    count = int.from_bytes(data[:width], "big")
    start = width * (count + 1)
    if count > SYMBOL_LIMIT or start > len(data):
        raise BrokenArchiveError(f"has an index of {count} symbols in {len(data)} bytes")
    names = data[start:].split(b"\0", count)[:count]
    return frozenset(map(as_text, names))
