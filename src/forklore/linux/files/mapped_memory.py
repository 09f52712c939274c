"""A file as a task has it mapped: read out of the task's memory, where the file itself may not be looked into."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from forklore.abi.units import Address, Tid, Unavailable
from forklore.linux import mappings, memory
from forklore.linux.files.strangers_file import LARGEST, Pages
from forklore.linux.mappings import Mapping

_AT_ONCE: Final = 4 * memory.PAGE_SIZE


class MappedFile:
    """A file by the mappings of it: a :class:`forklore.linux.files.strangers_file.StrangersFile`.

    It has what the program has there: relocated addresses, and zeros where nothing of the file is mapped. It can be
    read while :attr:`tid` is held.
    """

    def __init__(self, tid: Tid, parts: Sequence[Mapping]) -> None:
        """``parts``: mappings of one file."""
        self.tid = tid
        """Whose memory it is read from."""
        self.size = max(part.offset + part.size for part in parts)
        self.identity = (parts[0].major, parts[0].minor), parts[0].inode
        self.written: int | None = None
        self._parts = parts

    def read(self, offset: int, size: int) -> bytes:
        """Bytes at an offset of the file, all of them."""
        found = bytearray(size)
        for part in self._parts:
            start = max(offset, part.offset)
            end = min(offset + size, part.offset + part.size)
            for at in range(start, end, _AT_ONCE):
                got = memory.window(self.tid, Address(part.start + at - part.offset), min(_AT_ONCE, end - at))
                found[at - offset : at - offset + len(got)] = got
        return bytes(found)

    def close(self) -> None:
        """Nothing is open."""


def mapped_pages(tid: Tid, mapping: Mapping) -> tuple[MappedFile, Pages] | Unavailable:
    """The file of a mapping of a task that is held, and what is read of it as it is needed."""
    every = mappings.of_file(tid, mapping)
    if isinstance(every, Unavailable):
        return every
    # A file can be mapped as a whole several times (dlmopen(3)).
    near = {part.offset: part for part in sorted(every, key=lambda part: -abs(part.start - mapping.start))}
    file = MappedFile(tid, tuple(near.values()))
    if file.size > LARGEST:
        return Unavailable(0, f"{os.fsdecode(mapping.path)} is mapped from behind {LARGEST >> 30} GiB of it")
    try:
        return file, Pages(file)
    except OSError as problem:
        return Unavailable(problem.errno or 0, problem.strerror or "no memory for it")
